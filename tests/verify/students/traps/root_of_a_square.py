import numpy as np

XHAT = {"identity": {"x": "N D"}}

def identity_forward(x):
    return np.sqrt(x ** 2), x

def identity_backward(dy, x):
    return dy
