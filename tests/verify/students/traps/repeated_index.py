import numpy as np

XHAT = {"shift": {"x": "N D", "c": "D"}}

def shift_forward(x, c):
    return x + c, None

def shift_backward(dy, cache):
    n, d = dy.shape
    dc = np.zeros(d)
    dc[np.arange(n * d) % d] += dy.ravel()
    return dy.copy(), dc
