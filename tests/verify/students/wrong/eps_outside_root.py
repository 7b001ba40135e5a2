import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = x.mean(axis=0)
    xmu = x - mu
    var = (xmu ** 2).mean(axis=0)
    denominator = np.sqrt(var) + eps
    xhat = xmu / denominator
    return gamma * xhat + beta, (xhat, denominator, gamma)

def batchnorm_backward(dout, cache):
    xhat, denominator, gamma = cache
    N = dout.shape[0]
    dxhat = dout * gamma
    dx = (dxhat - dxhat.sum(axis=0) / N - xhat * (dxhat * xhat).sum(axis=0) / N) / denominator
    dgamma = (dout * xhat).sum(axis=0)
    dbeta = dout.sum(axis=0)
    return dx, dgamma, dbeta
