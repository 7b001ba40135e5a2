import numpy as np

XHAT = {"square": {"x": "N D"}}

def square_forward(x):
    y = x.copy()
    cache = y.view()
    y *= x
    return y, cache

def square_backward(dy, x):
    return 2 * x * dy
