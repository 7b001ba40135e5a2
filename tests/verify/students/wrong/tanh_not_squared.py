import numpy as np

XHAT = {"tanh": {"x": "N D"}}

def tanh_forward(x):
    return np.tanh(x), x

def tanh_backward(dy, x):
    return dy * (1 - np.tanh(x))
