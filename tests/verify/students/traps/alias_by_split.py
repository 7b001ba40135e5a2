import numpy as np

XHAT = {"halves": {"x": "N 4", "b": "4"}}

def halves_forward(x, b):
    left, right = np.split(x, 2, axis=1)
    return np.concatenate([2 * left, right], axis=1) + b, None

def halves_backward(dout, cache):
    left, right = np.split(dout, 2, axis=1)
    left *= 2
    return np.concatenate([left, right], axis=1), dout.sum(axis=0)
