import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = np.mean(x, axis=0)
    xmu = x - mu
    var = np.mean(xmu ** 2, axis=0) + eps
    xhat = xmu / np.sqrt(var)
    return gamma * xhat + beta, (xmu, var, xhat, gamma, eps)

def batchnorm_backward(dout, cache):
    xmu, var, xhat, gamma, eps = cache
    N = dout.shape[0]
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    dvar = np.sum(dxhat * xmu, axis=0) * -0.5 * (var + eps) ** -1.5
    dmu = np.sum(-dxhat / np.sqrt(var + eps), axis=0)
    dx = dxhat / np.sqrt(var + eps) + 2 * xmu * dvar / N + dmu / N
    return dx, dgamma, dbeta
