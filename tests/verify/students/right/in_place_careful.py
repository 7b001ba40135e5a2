"""Saves memory: works in place, but only on arrays that nobody else holds."""
import numpy as np


def batchnorm_forward(x, gamma, beta, bn_param):
    eps = bn_param.get('eps', 1e-5)
    momentum = bn_param.get('momentum', 0.9)
    running_mean = bn_param.get('running_mean', np.zeros(x.shape[1], dtype=x.dtype))
    running_var = bn_param.get('running_var', np.zeros(x.shape[1], dtype=x.dtype))

    if bn_param['mode'] == 'train':
        mean = x.mean(axis=0)
        xhat = x - mean
        var = (xhat ** 2).mean(axis=0)
        istd = var + eps
        istd **= -0.5
        xhat *= istd
        out = xhat * gamma
        out += beta
        cache = xhat, istd, gamma
        running_mean = running_mean * momentum
        running_mean += (1 - momentum) * mean
        running_var = running_var * momentum
        running_var += (1 - momentum) * var
    elif bn_param['mode'] == 'test':
        out = x - running_mean
        out /= np.sqrt(running_var + eps)
        out *= gamma
        out += beta
        cache = None
    else:
        raise ValueError('Invalid forward batchnorm mode "%s"' % bn_param['mode'])
    bn_param['running_mean'], bn_param['running_var'] = running_mean, running_var
    return out, cache


def batchnorm_backward(dout, cache):
    xhat, istd, gamma = cache
    dbeta = dout.sum(axis=0)
    work = dout * xhat
    dgamma = work.sum(axis=0)
    np.multiply(xhat, dgamma / dout.shape[0], out=work)
    dx = dout.copy()
    dx -= dbeta / dout.shape[0]
    dx -= work
    dx *= gamma
    dx *= istd
    return dx, dgamma, dbeta
