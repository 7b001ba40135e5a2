import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = np.mean(x, axis=1, keepdims=True)
    var = np.var(x, axis=1, keepdims=True)
    xhat = (x - mu) / np.sqrt(var + eps)
    return gamma * xhat + beta, (xhat, var, gamma, eps)

def batchnorm_backward(dout, cache):
    xhat, var, gamma, eps = cache
    N = dout.shape[0]
    g = gamma * dout
    dx = (N * g - np.sum(g, axis=0) - xhat * np.sum(g * xhat, axis=0)) / (N * np.sqrt(var + eps))
    return dx, np.sum(xhat * dout, axis=0), np.sum(dout, axis=0)
