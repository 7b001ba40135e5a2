import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}

def scale_forward(x, gamma):
    return x * gamma, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    parts = [lambda: dout[:, j] * x[:, j] for j in range(x.shape[1])]
    dgamma = np.array([part().sum() for part in parts])
    return dout * gamma, dgamma
