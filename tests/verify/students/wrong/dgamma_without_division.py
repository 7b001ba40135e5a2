import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    xmu = x - np.mean(x, axis=0)
    std = np.sqrt(np.mean(xmu ** 2, axis=0) + eps)
    xhat = xmu / std
    return gamma * xhat + beta, (xmu, xhat, std, gamma)

def batchnorm_backward(dout, cache):
    xmu, xhat, std, gamma = cache
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xmu, axis=0)
    dxhat = dout * gamma
    dx = (dxhat - np.mean(dxhat, axis=0) - xhat * np.mean(dxhat * xhat, axis=0)) / std
    return dx, dgamma, dbeta
