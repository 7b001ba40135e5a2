import numpy as np

XHAT = {"rmsnorm": {"x": "N D", "g": "D", "eps": "eps"}}

def rmsnorm_forward(x, g, eps=1e-6):
    ms = (x * x).mean(-1, keepdims=True)
    r = 1 / np.sqrt(ms + eps)
    return x * r * g, (x, r, g)

def rmsnorm_backward(dy, cache):
    x, r, g = cache
    d = x.shape[-1]
    a = dy * g
    dx = r * a - x * r**3 * (a * x).sum(-1, keepdims=True) / d
    return dx, (dy * x * r).sum(0)
