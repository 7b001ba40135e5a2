import numpy as np

XHAT = {"center": {"x": "N D"}}

def center_forward(x):
    return x - x.mean(axis=0), None

def center_backward(dout, cache):
    n = min(len(dout), 3)
    return dout - dout.sum(axis=0) / n
