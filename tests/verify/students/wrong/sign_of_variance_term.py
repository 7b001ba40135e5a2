import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = x.mean(axis=0)
    var = x.var(axis=0)
    xhat = (x - mu) * (var + eps) ** -0.5
    return gamma * xhat + beta, (x, mu, var, eps, xhat, gamma)

def batchnorm_backward(dout, cache):
    x, mu, var, eps, xhat, gamma = cache
    N = x.shape[0]
    dxhat = dout * gamma
    dvar = np.sum(dxhat * (x - mu), axis=0) * 0.5 * (var + eps) ** -1.5
    dmu = -np.sum(dxhat, axis=0) * (var + eps) ** -0.5
    dx = dxhat * (var + eps) ** -0.5 + dvar * 2 * (x - mu) / N + dmu / N
    return dx, np.sum(dout * xhat, axis=0), np.sum(dout, axis=0)
