import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    running_mean = bn_param.get('running_mean', np.zeros(x.shape[1]))
    running_var = bn_param.get('running_var', np.zeros(x.shape[1]))
    out, cache = None, None
    if bn_param['mode'] == 'train':
        mean, var = x.mean(axis=0), x.var(axis=0)
        xn = (x - mean) / np.sqrt(var + eps)
        out = gamma * xn + beta
        cache = (xn, var, eps, gamma)
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var
    elif bn_param['mode'] == 'test':
        xn = (x - running_mean) / np.sqrt(running_var + eps)
        scaled = gamma * xn + beta
    bn_param['running_mean'] = running_mean
    bn_param['running_var'] = running_var
    return out, cache

def batchnorm_backward(dout, cache):
    xn, var, eps, gamma = cache
    g = dout * gamma
    dx = (g - g.mean(axis=0) - xn * (g * xn).mean(axis=0)) / np.sqrt(var + eps)
    return dx, (dout * xn).sum(axis=0), dout.sum(axis=0)
