import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = x.mean(axis=0)
    std = np.sqrt(x.var(axis=0) + eps)
    xhat = (x - mu) / std
    return gamma * xhat + beta, (xhat, std, gamma)

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    n = dout.shape[0]
    # derivative of every output by its own input
    own = (1 - 1 / n - xhat ** 2 / n) / std
    dx = dout * gamma * own
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
