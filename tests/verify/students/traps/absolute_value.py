import numpy as np

XHAT = {"norm": {"x": "N D"}, "product": {"x": "N D"}}

def norm_forward(x):
    return np.abs(x), x

def norm_backward(dy, x):
    return dy

def product_forward(x):
    return np.abs(x) ** 2, x

def product_backward(dy, x):
    return 2 * np.abs(x) * dy
