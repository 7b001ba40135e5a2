import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    mu = x.mean(0)
    var = ((x - mu) ** 2).mean(0)
    sigma = np.sqrt(var + eps)
    norm = (x - mu) * sigma
    out = gamma * norm + beta
    return out, (x, mu, sigma, norm, gamma)

def batchnorm_backward(dout, cache):
    x, mu, sigma, norm, gamma = cache
    m = len(x)
    g = dout * gamma
    hat = (x - mu) / sigma
    dx = (g - g.mean(0) - hat * (g * hat).mean(0)) / sigma
    return dx, np.sum(dout * norm, 0), np.sum(dout, 0)
