import numpy as np

XHAT = {"normalize": {"x": "N D", "eps": "eps"}}

def normalize_forward(x, eps):
    xc = x - x.mean(axis=0)
    std = np.sqrt((xc ** 2).mean(axis=0) + eps)
    return xc / std, (x, std)

def normalize_backward(dout, cache):
    x, std = cache
    return (dout - dout.mean(axis=0) - x * (dout * x).mean(axis=0) / std ** 2) / std
