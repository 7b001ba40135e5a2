from numpy import *

def batchnorm_forward(x, gamma, beta, eps):
    m = mean(x, axis=0)
    s = sqrt(var(x, axis=0) + eps)
    xn = (x - m) / s
    return gamma * xn + beta, (xn, s, gamma)

def batchnorm_backward(dout, cache):
    xn, s, gamma = cache
    N = shape(dout)[0]
    dxn = multiply(dout, gamma)
    dx = (dxn - sum(dxn, axis=0) / N - xn * sum(dxn * xn, axis=0) / N) / s
    return dx, sum(dout * xn, axis=0), sum(dout, axis=0)
