import numpy as np

def affine_forward(x, w, b):
    flat = x.reshape(x.shape[0], -1)
    return flat @ w + b, (x, flat, w)

def affine_backward(dout, cache):
    x, flat, w = cache
    dx = (dout @ w.T).reshape(x.shape)
    dw = flat.T @ dout / len(x)
    db = dout.mean(axis=0)
    return dx, dw, db
