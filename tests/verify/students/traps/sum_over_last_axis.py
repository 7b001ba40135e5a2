import numpy as np

XHAT = {"shift": {"x": "N D E", "b": "E"}}

def shift_forward(x, b):
    return x + b, None

def shift_backward(dout, cache):
    return dout.copy(), dout.sum(axis=-1).sum(axis=0)[: dout.shape[-1]]
