import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x.astype(np.float16), gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    return dout * gamma, (dout * x).sum(axis=0)
