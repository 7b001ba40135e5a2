import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    xmu = x - x.mean(axis=0)
    istd = 1 / np.sqrt((xmu ** 2).mean(axis=0) + eps)
    return gamma * xmu * istd + beta, (xmu, istd, gamma)

def batchnorm_backward(dout, cache):
    xmu, istd, gamma = cache
    dbeta = dout.sum(axis=0)
    dgamma = (dout * xmu * istd).sum(axis=0)
    dxhat = dout * gamma
    dx = istd * (dxhat - dxhat.mean(axis=0) - xmu * istd ** 2 * (dxht * xmu).mean(axis=0))
    return dx, dgamma, dbeta
