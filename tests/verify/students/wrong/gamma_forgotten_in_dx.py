import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = x.mean(axis=0)
    std = np.sqrt(x.var(axis=0) + eps)
    xhat = (x - mu) / std
    return gamma * xhat + beta, (xhat, std)

def batchnorm_backward(dout, cache):
    xhat, std = cache
    dgamma = np.sum(dout * xhat, axis=0)
    dbeta = np.sum(dout, axis=0)
    dx = (dout - dbeta / len(dout) - xhat * dgamma / len(dout)) / std
    return dx, dgamma, dbeta
