import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    N, D = x.shape
    running_mean = bn_param.get('running_mean', np.zeros(D))
    running_var = bn_param.get('running_var', np.zeros(D))
    cache = None
    if bn_param['mode'] == 'train':
        mean = x.mean(axis=0)
        var = x.var(axis=0)
        std = np.sqrt(var + eps)
        z = (x - mean) / std
        cache = (z, std, gamma)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var
    else:
        z = (x - running_mean) / np.sqrt(running_var + eps)
    bn_param['running_mean'], bn_param['running_var'] = running_mean, running_var
    return gamma * z + beta, cache

def batchnorm_backward(dout, cache):
    z, std, gamma = cache
    N = dout.shape[0]
    dz = dout * gamma
    dx = (dz - dz.sum(axis=0) / N - z * (dz * z).sum(axis=0) / N) / std
    return dx, (dout * z).sum(axis=0), dout.sum(axis=0)
