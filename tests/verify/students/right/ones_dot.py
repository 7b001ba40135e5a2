import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    N, D = x.shape
    ones = np.ones((N, 1))
    mean = ones.T.dot(x) / N                  # (1, D)
    xc = x - ones.dot(mean)
    var = ones.T.dot(xc ** 2) / N
    rstd = 1. / np.sqrt(var + eps)
    xhat = xc * ones.dot(rstd)
    out = xhat * ones.dot(gamma.reshape(1, D)) + ones.dot(beta.reshape(1, D))
    return out, (xhat, rstd, gamma)

def batchnorm_backward(dout, cache):
    xhat, rstd, gamma = cache
    N, D = dout.shape
    ones = np.ones((N, 1))
    dgamma = np.dot(ones.T, dout * xhat).reshape(D)
    dbeta = np.dot(ones.T, dout).reshape(D)
    dxhat = dout * ones.dot(gamma.reshape(1, D))
    t1 = dxhat
    t2 = ones.dot(ones.T.dot(dxhat)) / N
    t3 = xhat * ones.dot(ones.T.dot(dxhat * xhat)) / N
    dx = (t1 - t2 - t3) * ones.dot(rstd)
    return dx, dgamma, dbeta
