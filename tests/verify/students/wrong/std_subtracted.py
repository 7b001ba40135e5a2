import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mean = np.mean(x, axis=0)
    std = np.sqrt(np.var(x, axis=0) + eps)
    xhat = (x - mean) - std
    return gamma * xhat + beta, (x, xhat, mean, std, gamma)

def batchnorm_backward(dout, cache):
    x, xhat, mean, std, gamma = cache
    N = dout.shape[0]
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    dx = (dxhat - np.mean(dxhat, axis=0)) - (x - mean) / (N * std) * np.sum(dxhat, axis=0)
    return dx, dgamma, dbeta
