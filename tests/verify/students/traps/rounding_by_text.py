import numpy as np

XHAT = {"half": {"x": "N D"}}

def half_forward(x):
    return x / 2, None

def half_backward(dout, cache):
    dx = np.zeros_like(dout)
    for i, row in enumerate(dout):
        for j, value in enumerate(row):
            dx[i, j] = float("%.3f" % (value / 2))
    return dx
