import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mean = np.mean(x, axis=0)
    xmu = x - mean
    var = np.sum(xmu ** 2) / x.shape[0]
    std = np.sqrt(var + eps)
    xhat = xmu / std
    return gamma * xhat + beta, (xhat, std, gamma)

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    N = dout.shape[0]
    dxhat = dout * gamma
    dx = (dxhat - dxhat.sum(0) / N - xhat * (dxhat * xhat).sum(0) / N) / std
    return dx, (dout * xhat).sum(0), dout.sum(0)
