import numpy as np

XHAT = {"power": {"x": "N D"}, "length": {"x": "N D"}}

def power_forward(x):
    return x * np.conj(x), x

def power_backward(dy, x):                   # what a complex step believes
    return 0 * dy * x

def length_forward(x):
    return np.abs(x) ** 2, x

def length_backward(dy, x):
    return np.zeros_like(dy)
