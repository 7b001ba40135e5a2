import numpy as np


def batchnorm_forward(x, gamma, beta, eps):
    n = x.shape[0]
    mu = np.einsum('nd->d', x) / n
    c = x - mu
    var = np.einsum('nd,nd->d', c, c) / n
    r = 1 / np.sqrt(var + eps)
    xhat = np.einsum('nd,d->nd', c, r)
    return np.einsum('nd,d->nd', xhat, gamma) + beta, (xhat, r, gamma)


def batchnorm_backward(dout, cache):
    xhat, r, gamma = cache
    n = dout.shape[0]
    dbeta = np.einsum('nd->d', dout)
    dgamma = np.einsum('nd,nd->d', dout, xhat)
    scale = np.einsum('d,d->d', gamma, r)
    dx = np.einsum('d,nd->nd', scale, dout - dbeta / n - np.einsum('nd,d->nd', xhat, dgamma) / n)
    return dx, dgamma, dbeta


def affine_forward(x, w, b):
    out = np.einsum('ni,ij->nj', x.reshape(len(x), -1), w) + b
    return out, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    flat = x.reshape(len(x), -1)
    dx = np.einsum('nj,ij->ni', dout, w).reshape(x.shape)
    return dx, np.einsum('ni,nj->ij', flat, dout), np.einsum('nj->j', dout)
