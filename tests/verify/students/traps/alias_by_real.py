import numpy as np

XHAT = {"double": {"x": "N D", "b": "D"}}

def double_forward(x, b):
    return 2 * x + b, None

def double_backward(dout, cache):
    part = np.real(dout)
    part *= 2
    return part, dout.sum(axis=0)
