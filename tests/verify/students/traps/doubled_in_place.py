import numpy as np

XHAT = {"copy": {"x": "N D"}}

def copy_forward(x):
    return x + 0, None

def copy_backward(dout, cache):
    dout *= 2
    return dout
