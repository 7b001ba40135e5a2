import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    noise = 1e-3 * np.random.randn(*dout.shape)
    return dout * (gamma + noise), (dout * x).sum(axis=0)
