import numpy as np

def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    N, C, H, W = x.shape
    rows = x.reshape(-1, C)
    mu, var = rows.mean(axis=0), rows.var(axis=0)
    bn_param['running_mean'] = momentum * bn_param.get('running_mean', np.zeros(C)) + (1 - momentum) * mu
    bn_param['running_var'] = momentum * bn_param.get('running_var', np.zeros(C)) + (1 - momentum) * var
    if bn_param['mode'] == 'test':
        mu, var = bn_param['running_mean'], bn_param['running_var']
    std = np.sqrt(var + eps)
    hat = (rows - mu) / std
    return (gamma * hat + beta).reshape(N, C, H, W), (hat, std, gamma)

def spatial_batchnorm_backward(dout, cache):
    hat, std, gamma = cache
    N, C, H, W = dout.shape
    d = dout.reshape(-1, C)
    g = d * gamma
    dx = (g - g.mean(axis=0) - hat * (g * hat).mean(axis=0)) / std
    return dx.reshape(N, C, H, W), (d * hat).sum(axis=0), d.sum(axis=0)
