import numpy as np

XHAT = {"shift": {"x": "N D", "c": "1"}}

def shift_forward(x, c):
    return x + c, None

def shift_backward(dy, cache):
    return dy.copy(), np.sum(dy)
