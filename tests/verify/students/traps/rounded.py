import numpy as np

XHAT = {"square": {"x": "N D"}, "half": {"x": "N D"}}

def square_forward(x):
    return x ** 2, x

def square_backward(dy, x):
    return np.round(2 * x * dy, 4)

def half_forward(x):
    return x / 2, None

def half_backward(dy, cache):
    return np.round(dy / 2, 3)
