import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache, total=[]):
    x, gamma = cache
    total.append((dout * x).sum(axis=0))
    return dout * gamma, sum(total)
