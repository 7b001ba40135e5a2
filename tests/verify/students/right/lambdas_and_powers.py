import numpy as np
from functools import partial

mean0 = partial(np.mean, axis=0)
center = lambda a: a - mean0(a)

def batchnorm_forward(x, gamma, beta, eps):
    xc = center(x)
    r = (mean0(xc * xc) + eps) ** -0.5
    return gamma * (xc * r) + beta, (xc, r, gamma)

def batchnorm_backward(dout, cache):
    xc, r, gamma = cache
    proj = lambda g: center(g) - xc * r ** 2 * mean0(g * xc)
    total = lambda a: np.sum(a, axis=0)
    return proj(gamma * dout) * r, total(dout * xc * r), total(dout)
