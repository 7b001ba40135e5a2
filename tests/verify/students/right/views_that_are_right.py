# Looks like changing dout; changes copies only.
import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D", "beta": "D"}, "square": {"x": "N D"}}

def scale_forward(x, gamma, beta):
    y = x.T.copy()
    y *= gamma[:, None]
    y += beta[:, None]
    return y.T, (x.view(), gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    dx = dout + 0
    rows = dx.T
    rows *= gamma[:, None]                 # dx changes with it, dout does not
    buffer = np.empty_like(dout)
    np.copyto(buffer, dout)
    buffer *= x
    return dx, buffer.sum(0), dout.sum(0)

def square_forward(x):
    return np.conj(x) * x, x

def square_backward(dy, x):
    return dy * (np.conj(x) + x)
