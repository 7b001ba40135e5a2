# Every sample counts as often as its weight says.
import numpy as np

XHAT = {"weighted_norm": {"x": "N D", "gamma": "D", "beta": "D", "w": "N 1", "eps": "eps", "gradients": "dx dgamma dbeta"}}

def weighted_norm_forward(x, gamma, beta, w, eps):
    w = w * w                                   # weights are positive
    W = w.sum()
    mean = (w * x).sum(axis=0) / W
    xc = x - mean
    var = (w * xc ** 2).sum(axis=0) / W
    std = np.sqrt(var + eps)
    xhat = xc / std
    return gamma * xhat + beta, (xhat, std, gamma, w, W)

def weighted_norm_backward(dout, cache):
    xhat, std, gamma, w, W = cache
    g = dout * gamma
    dx = (g - w * g.sum(axis=0) / W - w * xhat * (g * xhat).sum(axis=0) / W) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
