import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    xmu = x - np.mean(x, axis=0)
    std = np.sqrt(np.mean(xmu ** 2, axis=0) + eps)
    xhat = xmu / std
    return gamma * xhat + beta, (xhat, std, gamma)

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    N = dout.shape[0]
    dxhat = dout * gamma
    dx = (dxhat - dxhat.sum(axis=0) / N - xhat * (dxhat * xhat).sum(axis=0) / (N - 1)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
