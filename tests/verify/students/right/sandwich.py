from layers import *

XHAT = {"affine_bn_relu": {"x": "N D", "w": "D M", "b": "M", "gamma": "M", "beta": "M", "eps": "eps"}}

def affine_bn_relu_forward(x, w, b, gamma, beta, eps):
    a, fc_cache = affine_forward(x, w, b)
    h, bn_cache = batchnorm_forward(a, gamma, beta, {"mode": "train", "eps": eps})
    out, relu_cache = relu_forward(h)
    return out, (fc_cache, bn_cache, relu_cache)

def affine_bn_relu_backward(dout, cache):
    fc_cache, bn_cache, relu_cache = cache
    dh = relu_backward(dout, relu_cache)
    da, dgamma, dbeta = batchnorm_backward_alt(dh, bn_cache)
    dx, dw, db = affine_backward(da, fc_cache)
    return dx, dw, db, dgamma, dbeta
