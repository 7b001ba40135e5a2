import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    rm = bn_param.get('running_mean', np.zeros(x.shape[1]))
    rv = bn_param.get('running_var', np.zeros(x.shape[1]))
    mean, var = x.mean(axis=0), x.var(axis=0)
    bn_param['running_mean'] = momentum * rm + (1 - momentum) * mean
    bn_param['running_var'] = momentum * rv + (1 - momentum) * var
    if bn_param['mode'] == 'train':
        xn = (x - mean) / np.sqrt(var + eps)
    else:
        xn = (x - rm) / np.sqrt(rv + eps)
    return gamma * xn + beta, (xn, var, eps, gamma)

def batchnorm_backward(dout, cache):
    xn, var, eps, gamma = cache
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xn * (g * xn).mean(axis=0)) / np.sqrt(var + eps)
    return dx, (dout * xn).sum(axis=0), dout.sum(axis=0)
