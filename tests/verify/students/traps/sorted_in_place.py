import numpy as np

XHAT = {"shift": {"x": "N D", "b": "D"}}

def shift_forward(x, b):
    return x + b, None

def shift_backward(dout, cache):
    db = dout.sum(axis=0)
    dout.sort(axis=0)
    return dout, db
