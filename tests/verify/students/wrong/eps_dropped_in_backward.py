import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = np.mean(x, axis=0)
    xmu = x - mu
    var = np.mean(xmu ** 2, axis=0)
    xhat = xmu / np.sqrt(var + eps)
    return gamma * xhat + beta, (xmu, var, xhat, gamma)

def batchnorm_backward(dout, cache):
    xmu, var, xhat, gamma = cache
    N = dout.shape[0]
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    std = np.sqrt(var)
    dxhat = dout * gamma
    dx = (dxhat - np.sum(dxhat, axis=0) / N - xmu / std * np.sum(dxhat * xmu / std, axis=0) / N) / std
    return dx, dgamma, dbeta
