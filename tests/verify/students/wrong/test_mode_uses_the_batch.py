import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    mean, var = x.mean(axis=0), x.var(axis=0)
    xn = (x - mean) / np.sqrt(var + eps)
    if bn_param['mode'] == 'train':
        bn_param['running_mean'] = momentum * bn_param.get('running_mean', 0 * mean) + (1 - momentum) * mean
        bn_param['running_var'] = momentum * bn_param.get('running_var', 0 * var) + (1 - momentum) * var
    return gamma * xn + beta, (xn, var, eps, gamma)

def batchnorm_backward(dout, cache):
    xn, var, eps, gamma = cache
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xn * (g * xn).mean(axis=0)) / np.sqrt(var + eps)
    return dx, (dout * xn).sum(axis=0), dout.sum(axis=0)
