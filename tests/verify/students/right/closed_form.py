import numpy as np

def batchnorm_forward(x, gamma, beta, bn_param):
    eps = bn_param.get('eps', 1e-5)
    momentum = bn_param.get('momentum', 0.9)
    rm = bn_param.setdefault('running_mean', np.zeros(x.shape[1]))
    rv = bn_param.setdefault('running_var', np.zeros(x.shape[1]))
    if bn_param['mode'] == 'test':
        return (x - rm) * gamma / np.sqrt(rv + eps) + beta, None
    if bn_param['mode'] != 'train':
        raise ValueError('mode is train or test, not ' + repr(bn_param['mode']))
    m, v = np.mean(x, 0), np.var(x, 0)
    bn_param['running_mean'] = rm * momentum + m * (1 - momentum)
    bn_param['running_var'] = rv * momentum + v * (1 - momentum)
    inv = 1 / np.sqrt(v + eps)
    xh = (x - m) * inv
    return gamma * xh + beta, (xh, inv, gamma)

def batchnorm_backward(dout, cache):
    xh, inv, gamma = cache
    dbeta, dgamma = dout.sum(0), (dout * xh).sum(0)
    return gamma * inv * (dout - dout.mean(0) - xh * np.mean(dout * xh, axis=0)), dgamma, dbeta

def batchnorm_backward_alt(dout, cache):
    xh, inv, gamma = cache
    return (gamma*inv/len(dout)*(len(dout)*dout - dout.sum(0) - xh*(dout*xh).sum(0)), (dout*xh).sum(0), dout.sum(0))
