import numpy as np

XHAT = {"silu": {"x": "N D"}}

def silu_forward(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, (x, s)

def silu_backward(dy, cache):
    x, s = cache
    return dy * s * (1 - s)
