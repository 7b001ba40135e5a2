import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    mode = bn_param['mode']
    eps = bn_param.get('eps', 1e-5)
    momentum = bn_param.get('momentum', 0.9)
    running_mean = bn_param.get('running_mean', np.zeros(x.shape[1]))
    running_var = bn_param.get('running_var', np.zeros(x.shape[1]))
    if mode == 'train':
        mu, var = np.mean(x, axis=0), np.var(x, axis=0)
        running_mean = momentum * running_mean + (1 - momentum) * mu
        running_var = momentum * running_var + (1 - momentum) * var
        xhat = (x - mu) / np.sqrt(var + eps)
        return xhat * gamma + beta, (xhat, var + eps, gamma)
    xhat = (x - running_mean) / np.sqrt(running_var + eps)
    return xhat * gamma + beta, None

def batchnorm_backward(dout, cache):
    xhat, v, gamma = cache
    dbeta, dgamma = dout.sum(axis=0), (dout * xhat).sum(axis=0)
    return gamma / np.sqrt(v) * (dout - (dbeta + xhat * dgamma) / len(dout)), dgamma, dbeta
