import numpy as np

XHAT = {"shift": {"x": "N D", "a": "D", "b": "D"}}

def shift_forward(x, a, b):
    return x + a + b, None

def shift_backward(dy, cache):
    rows = (row for row in dy)
    da = sum(rows)
    db = sum(rows) + np.zeros(dy.shape[1])
    return dy.copy(), da, db
