import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D", "beta": "D"}, "shift": {"x": "N D", "beta": "D"}}

def scale_forward(x, gamma, beta):
    return x * gamma + beta, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    dgamma = (dout * x).sum(axis=0)
    dx = np.asarray(dout)
    dx *= gamma
    return dx, dgamma, dout.sum(axis=0)

def shift_forward(x, beta):
    return x + 3 * beta, None

def shift_backward(dout, cache):
    work = dout.astype(float, copy=False)       # copies nothing if it is float already
    work *= 3
    return dout.copy(), work.sum(axis=0)
