import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    average = x.mean(axis=0)
    variance = ((x - average) ** 2).mean(axis=0)
    root = np.sqrt(varaince + eps)
    x_hat = (x - average) / root
    return gamma * x_hat + beta, (x_hat, root, gamma)

def batchnorm_backward(dout, cache):
    x_hat, root, gamma = cache
    dx_hat = dout * gamma
    dx = (dx_hat - dx_hat.mean(axis=0) - x_hat * (dx_hat * x_hat).mean(axis=0)) / root
    return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)
