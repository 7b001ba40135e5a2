import numpy as np

def relu_forward(x):
    out = np.maximum(0, x)
    return out, x

def relu_backward(dout, cache):
    dx = np.array(dout, copy=True)
    dx[dout <= 0] = 0
    return dx
