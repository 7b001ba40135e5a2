import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    N, D = x.shape
    rm = bn_param.get('running_mean', np.zeros(D))
    rv = bn_param.get('running_var', np.zeros(D))
    cache = None
    if bn_param['mode'] == 'train':
        mean, var = x.mean(axis=0), x.var(axis=0)
        std = np.sqrt(var + eps)
        z = (x - mean) / std
        cache = (z, std, gamma)
        rm = momentum * rm + (1 - momentum) * mean
        rv = momentum * rv + (1 - momentum) * var * N / (N - 1)
    else:
        z = (x - rm) / np.sqrt(rv + eps)
    bn_param.update(running_mean=rm, running_var=rv)
    return gamma * z + beta, cache

def batchnorm_backward(dout, cache):
    z, std, gamma = cache
    N = dout.shape[0]
    dz = dout * gamma
    dx = (N * dz - dz.sum(axis=0) - z * (dz * z).sum(axis=0)) / std / N
    return dx, (dout * z).sum(axis=0), dout.sum(axis=0)
