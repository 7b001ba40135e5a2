import numpy as np

XHAT = {"noisy": {"x": "N D"}}

def noisy_forward(x):
    noise = np.random.rand(*x.shape)
    return x * noise, noise

def noisy_backward(dy, noise):
    return dy
