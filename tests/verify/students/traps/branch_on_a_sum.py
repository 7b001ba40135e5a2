import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    if np.sum(dout) > 0:
        return dout * gamma, (dout * x).sum(axis=0)
    return dout, (dout * x).sum(axis=0)
