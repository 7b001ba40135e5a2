import numpy as np

XHAT = {"lengths": {"x": "N D"}}

def lengths_forward(x):
    a = np.sqrt(1 + np.sum(x ** 2, axis=0))
    b = np.sqrt(1 + np.sum(x ** 2, axis=0) + np.sum(x ** 4, axis=0))
    return x * a - x * b, (x, a, b)

def lengths_backward(dy, cache):             # as if both roots were one
    x, a, b = cache
    return dy * (a - b)
