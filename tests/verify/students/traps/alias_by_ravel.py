import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    flat = dout.ravel()
    flat[:] = (dout * gamma).ravel()
    return dout, (dout * x).sum(axis=0)
