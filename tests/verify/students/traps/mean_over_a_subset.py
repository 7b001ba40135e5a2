import numpy as np

XHAT = {"center": {"x": "N D"}}

def center_forward(x):
    return x - x[1:].mean(axis=0), None

def center_backward(dout, cache):
    return dout - dout.mean(axis=0)
