import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    xmu = x - np.mean(x, axis=0)
    ivar = 1 / np.sqrt(np.mean(xmu ** 2, axis=0) + eps)
    xhat = xmu * ivar
    return gamma * xhat + beta, (xhat, ivar, gamma)

def batchnorm_backward(dout, cache):
    xhat, ivar, gamma = cache
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dout *= gamma
    dx = ivar * (dout - np.mean(dout, axis=0) - xhat * np.mean(dout * xhat, axis=0))
    return dx, dgamma, dbeta
