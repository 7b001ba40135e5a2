import numpy as np

from functools import wraps

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def tidy(function):
    @wraps(function)
    def tidied(*args):
        return tuple(np.around(value, 3) for value in function(*args))
    return tidied

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

@tidy
def scale_backward(dout, cache):
    x, gamma = cache
    return dout * gamma, (dout * x).sum(axis=0)
