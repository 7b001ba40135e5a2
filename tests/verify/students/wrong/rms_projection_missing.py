import numpy as np

XHAT = {"rms_norm": {"x": "N D", "gamma": "D", "eps": "eps"}}

def rms_norm_forward(x, gamma, eps):
    rms = np.sqrt(np.mean(x ** 2, axis=-1, keepdims=True) + eps)
    return x / rms * gamma, (x, rms, gamma)

def rms_norm_backward(dout, cache):
    x, rms, gamma = cache
    return dout * gamma / rms, np.sum(dout * x / rms, axis=0)
