import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = x.mean(axis=0)
    sigma = np.sqrt(x.var(axis=0) + eps)
    xhat = (x - mu) / sigma
    return gamma * xhat + beta, (xhat, sigma, gamma)

def batchnorm_backward(dout, cache):
    xhat, sigma, gamma = cache
    dxhat = dout * gamma
    dx = (dxhat - np.mean(dxhat, axis=0)) / sigma
    return dx, np.sum(dout * xhat, axis=0), np.sum(dout, axis=0)
