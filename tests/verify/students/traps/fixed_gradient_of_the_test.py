import numpy as np

XHAT = {"square": {"x": "N D"}}

def square_forward(x):
    return x ** 2, x

def square_backward(dy, x):                  # differences of its own forward, too coarse
    h = 0.1
    return dy * (square_forward(x + h)[0] - square_forward(x)[0]) / h
