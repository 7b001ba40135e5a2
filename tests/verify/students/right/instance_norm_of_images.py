import numpy as np

def instancenorm_forward(x, gamma, beta, eps):
    N, C, H, W = x.shape
    m = x.mean(axis=(2, 3), keepdims=True)
    s = np.sqrt(((x - m) ** 2).mean(axis=(2, 3), keepdims=True) + eps)
    h = (x - m) / s
    return h * gamma[None, :, None, None] + beta[None, :, None, None], (h, s, gamma)

def instancenorm_backward(dout, cache):
    h, s, gamma = cache
    g = dout * gamma[None, :, None, None]
    keep = dict(axis=(2, 3), keepdims=True)
    dx = (g - g.mean(**keep) - h * (g * h).mean(**keep)) / s
    return dx, (dout * h).sum(axis=(0, 2, 3)), dout.sum(axis=(0, 2, 3))
