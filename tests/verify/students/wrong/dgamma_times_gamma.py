import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    xmu = x - x.mean(axis=0)
    std = np.sqrt((xmu ** 2).mean(axis=0) + eps)
    return gamma * xmu / std + beta, (xmu, std, gamma)

def batchnorm_backward(dout, cache):
    xmu, std, gamma = cache
    n = len(dout)
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * gamma * xmu / std, axis=0)
    g = dout * gamma
    dx = 1 / std * (g - np.sum(g, axis=0) / n - xmu / std ** 2 * np.sum(g * xmu, axis=0) / n)
    return dx, dgamma, dbeta
