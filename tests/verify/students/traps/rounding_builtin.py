import numpy as np

XHAT = {"half": {"x": "N D"}, "twice": {"x": "N D"}}

def half_forward(x):
    return x / 2, None

def half_backward(dout, cache):
    return np.array([[round(value / 2, 3) for value in row] for row in dout])

def twice_forward(x):
    return 2 * x, None

def twice_backward(dout, cache):
    return 2 * dout - (2 * dout) % 0.001
