import numpy as np

XHAT = {"mix": {"x": "N D"}}

def mix_forward(x):
    return np.sum(x, axis=1)[:, None] * x, x

def mix_backward(dy, x):
    return 2 * x * dy
