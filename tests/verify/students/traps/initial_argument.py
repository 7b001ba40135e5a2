import numpy as np

XHAT = {"shift": {"x": "N D", "beta": "D"}}

def shift_forward(x, beta):
    return x + beta, x

def shift_backward(dout, x):
    return dout.copy(), np.sum(dout, axis=0, initial=1.0)
