import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    return np.clip(dout * gamma, -5, 5), (dout * x).sum(axis=0)
