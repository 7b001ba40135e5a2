import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    xmu = x - np.mean(x, axis=0)
    std = np.sqrt(np.mean(xmu ** 2, axis=0) + eps)
    xhat = xmu / std
    return gamma * xhat + beta, (xhat, std, gamma)

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    dgamma = np.mean(dout * xhat, axis=0)
    dbeta = np.mean(dout, axis=0)
    dx = gamma / std * (dout - dbeta - xhat * dgamma)
    return dx, dgamma, dbeta
