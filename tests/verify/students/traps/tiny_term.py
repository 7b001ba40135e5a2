import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}, "square": {"x": "N D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    return dout * gamma, (dout * x + 1e-12 * x ** 3).sum(axis=0)

def square_forward(x):
    return x ** 2, x

def square_backward(dout, x):
    return 2 * x * dout * (1 + 1e-14 * x ** 2)
