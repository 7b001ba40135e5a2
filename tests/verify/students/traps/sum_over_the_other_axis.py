import numpy as np

XHAT = {"rowsum": {"x": "N D"}, "rowsquare": {"x": "N D"}}

def rowsum_forward(x):
    return x.sum(axis=1, keepdims=True) * np.ones_like(x), x

def rowsum_backward(dy, x):
    return dy

def rowsquare_forward(x):
    return x.sum(axis=1, keepdims=True) ** 2 * np.ones_like(x), x

def rowsquare_backward(dy, x):
    return 2 * x * dy
