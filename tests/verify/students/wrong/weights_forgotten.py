import numpy as np

XHAT = {"weighted_norm": {"x": "N D", "w": "N 1", "eps": "eps", "gradients": "dx"}}

def weighted_norm_forward(x, w, eps):
    w = w ** 2 / (w ** 2).sum()
    mean = (w * x).sum(axis=0)
    std = np.sqrt((w * (x - mean) ** 2).sum(axis=0) + eps)
    xhat = (x - mean) / std
    return xhat, (xhat, std, w)

def weighted_norm_backward(dout, cache):
    xhat, std, w = cache
    return (dout - dout.mean(axis=0) - xhat * (dout * xhat).mean(axis=0)) / std
