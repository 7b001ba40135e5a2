import numpy as np

XHAT = {"identity": {"x": "N D"}, "length": {"x": "N D"}}

def identity_forward(x):
    return x * np.sign(x), x

def identity_backward(dy, x):
    return dy

def length_forward(x):
    return np.linalg.norm(x, axis=1), x

def length_backward(dy, x):
    return dy[:, None] * x / np.linalg.norm(x, axis=0)
