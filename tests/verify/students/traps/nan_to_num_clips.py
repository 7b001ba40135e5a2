import numpy as np

XHAT = {"cube": {"x": "N D"}}

def cube_forward(x):
    return x ** 3, x

def cube_backward(dout, x):
    g = 3 * x ** 2 * dout
    return np.where(np.abs(g) < 1e6, g, 0)      # "against exploding gradients"
