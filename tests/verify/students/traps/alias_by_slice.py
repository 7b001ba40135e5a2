import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D", "beta": "D"}}

def scale_forward(x, gamma, beta):
    return x * gamma + beta, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    dgamma = (dout * x).sum(axis=0)
    dx = dout[:]
    for row in dx:
        row *= gamma
    return dx, dgamma, dout.sum(axis=0)
