import numpy as np

XHAT = {"cube": {"x": "N D"}}

def cube_forward(x):
    return (x ** 2) ** 1.5, x

def cube_backward(dy, x):
    return 3 * x ** 2 * dy
