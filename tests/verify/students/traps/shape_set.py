import numpy as np

XHAT = {"rows": {"x": "N D"}}

def rows_forward(x):
    return x * 1.0, None

def rows_backward(dout, cache):
    g = dout.copy()
    g.shape = g.shape[::-1]
    return g.T
