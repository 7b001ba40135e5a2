import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    dx = np.zeros(x.shape, dtype=int)
    dx[:] = dout * gamma
    return dx, (dout * x.astype(int)).sum(axis=0)
