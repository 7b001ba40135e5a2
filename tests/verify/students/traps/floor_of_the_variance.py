import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    xc = x - x.mean(axis=0)
    var = np.maximum((xc ** 2).mean(axis=0), eps)          # eps as a floor, not as a summand
    std = np.sqrt(var)
    xhat = xc / std
    return gamma * xhat + beta, (xhat, std, gamma)

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
