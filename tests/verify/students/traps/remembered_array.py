import numpy as np

from functools import lru_cache

XHAT = {"shift": {"x": "N D", "b": "D"}}

@lru_cache
def zeros(d):
    return np.zeros(d)

def shift_forward(x, b):
    return x + b, None

def shift_backward(dout, cache):
    db = zeros(dout.shape[1])
    db += dout.sum(axis=0)                      # the array that zeros() will return the next time
    return dout.copy(), db
