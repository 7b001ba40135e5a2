import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    x -= x.mean(axis=0)
    std = np.sqrt((x ** 2).mean(axis=0) + eps)
    x /= std
    return gamma * x + beta, (x.copy(), std, gamma)

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
