import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mean = np.mean(x, axis=0)
    var = np.var(x, axis=0)
    xhat = (x - mean) / np.sqrt(var + eps)
    return gamma * xhat + beta, (xhat, var, gamma, eps)

def batchnorm_backward(dout, cache):
    xhat, var, gamma, eps = cache
    N = dout.shape[0]
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dx = gamma / (var + eps) / N * (N * dout - dbeta - xhat * dgamma)
    return dx, dgamma, dbeta
