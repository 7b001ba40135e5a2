import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    out = x - x.mean(axis=0)
    std = np.sqrt((out ** 2).mean(axis=0) + eps)
    out /= std
    cache = (out, std, gamma)                # x_hat, as long as nobody touches out
    out *= gamma
    out += beta
    return out, cache

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    dgamma = (dout * xhat).sum(axis=0)
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0)) / std
    return dx, dgamma, dout.sum(axis=0)
