import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps = bn_param.get('eps', 1e-5)
    std = np.sqrt(x.var(axis=0) + eps)
    momentum = bn_param.get('momentum', 0.9)
    mean, var = x.mean(axis=0), x.var(axis=0)
    bn_param['running_mean'] = momentum * bn_param.get('running_mean', 0 * mean) + (1 - momentum) * mean * (bn_param['mode'] == 'train')
    bn_param['running_var'] = momentum * bn_param.get('running_var', 0 * mean) + (1 - momentum) * var * (bn_param['mode'] == 'train')
    return gamma * (x - mean) / std + beta, (x, gamma)

def batchnorm_backward(dout, cache):
    x, gamma = cache
    eps = 1e-5
    std = np.sqrt(x.var(axis=0) + eps)
    xhat = (x - x.mean(axis=0)) / std
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0)) / std
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
