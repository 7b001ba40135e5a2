import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, [x, gamma]

def scale_backward(dout, cache):
    gamma = cache.pop()
    x = cache[-1]
    x *= 0.5                                    # nobody needs it any more
    return dout * gamma, (dout * x).sum(axis=0)
