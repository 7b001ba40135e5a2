import numpy as np

XHAT = {"identity": {"x": "N D"}}

def identity_forward(x):
    return (x ** 4) ** 0.25, x

def identity_backward(dy, x):
    return dy
