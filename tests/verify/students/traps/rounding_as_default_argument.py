import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache, clean=np.round):
    x, gamma = cache
    return clean(dout * gamma, 3), (dout * x).sum(axis=0)
