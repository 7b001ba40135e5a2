import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    N = float(x.shape[0])
    sample_mean = np.mean(x, axis=0, keepdims=True)          # 1 x D
    sample_std = np.std(x, axis=0, keepdims=True)            # 1 x D
    denom = np.sqrt(sample_std ** 2 + eps)
    x_normalized = (x - sample_mean) / denom
    out = gamma.reshape(1, -1) * x_normalized + beta.reshape(1, -1)
    cache = {'x': x, 'mean': sample_mean, 'denom': denom, 'xn': x_normalized, 'gamma': gamma, 'N': N}
    return out, cache

def batchnorm_backward(dout, cache):
    N = cache['N']
    centered = cache['x'] - cache['mean']
    denom = cache['denom']
    dxn = dout * cache['gamma'].reshape(1, -1)
    dvar = np.sum(dxn * centered, axis=0, keepdims=True) * (-1.0 / 2) * np.power(denom, -3)
    dmean = np.sum(-dxn / denom, axis=0, keepdims=True)
    dx = dxn / denom + dvar * 2.0 * centered / N + dmean / N
    dgamma = np.squeeze(np.sum(dout * cache['xn'], axis=0, keepdims=True))
    dbeta = np.squeeze(np.sum(dout, axis=0, keepdims=True))
    return dx, dgamma, dbeta
