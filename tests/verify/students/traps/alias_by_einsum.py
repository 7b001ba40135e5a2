import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D", "beta": "D"}}

def scale_forward(x, gamma, beta):
    return x * gamma + beta, (x, gamma)

def scale_backward(dout, cache):
    x, gamma = cache
    dgamma = np.einsum('nd,nd->d', dout, x)
    turned = np.einsum('nd->dn', dout)          # a view, and one may write into it
    turned *= gamma[:, None]
    return turned.T, dgamma, np.einsum('nd->d', dout)
