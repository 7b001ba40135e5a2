import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    total = np.sum(dout * 0)
    dx = dout * gamma if total else dout
    return dx, (dout * x).sum(axis=0)
