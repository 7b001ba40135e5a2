import numpy as np

XHAT = {"third": {"x": "N D"}}

def third_forward(x):
    return x / 3, None

def third_backward(dout, cache):
    return 0.3333 * dout
