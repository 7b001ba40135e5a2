import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    rm = bn_param.get('running_mean', np.zeros(x.shape[1]))
    rv = bn_param.get('running_var', np.zeros(x.shape[1]))
    if bn_param['mode'] == 'train':
        mean = x.mean(axis=0)
        var = x.var(axis=0) + eps
        bn_param['running_mean'] = momentum * rm + (1 - momentum) * mean
        bn_param['running_var'] = momentum * rv + (1 - momentum) * var
        xn = (x - mean) / np.sqrt(var)
        return gamma * xn + beta, (xn, var, gamma)
    return gamma * (x - rm) / np.sqrt(rv + eps) + beta, None

def batchnorm_backward(dout, cache):
    xn, var, gamma = cache
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xn * (g * xn).mean(axis=0)) / np.sqrt(var)
    return dx, (dout * xn).sum(axis=0), dout.sum(axis=0)
