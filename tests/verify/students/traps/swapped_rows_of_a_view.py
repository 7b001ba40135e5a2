import numpy as np

XHAT = {"flip": {"x": "2 D"}}

def flip_forward(x):
    return x[::-1] * 1.0, None

def flip_backward(dout, cache):
    dx = dout.copy()
    dx[0], dx[1] = dx[1], dx[0]                 # both rows are the second one now
    return dx
