import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = x.mean(axis=0)
    xhat = x - mu
    std = np.sqrt((xhat ** 2).mean(axis=0) + eps)
    xhat = xhat / std
    cache = (xhat, std, gamma)
    return gamma * xhat + beta, cache

def batchnorm_backward(dout, cache):
    xhat, gamma, std = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
