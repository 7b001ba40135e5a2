import numpy as np

XHAT = {"tent": {"x": "N D"}}

def tent_forward(x):
    return np.maximum(x, -x), x

def tent_backward(dy, x):
    return dy * np.where(x * x > 0, 1, 0)
