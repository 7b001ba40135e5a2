# H = I - 11'/N takes the column means off.  xhat = H x / s,  dx = H (g - xhat mean(g xhat)) / s
import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    N = x.shape[0]
    H = np.eye(N) - np.ones((N, N)) / N
    xc = H @ x
    var = np.ones(N) @ (xc * xc) / N
    s = np.sqrt(var + eps)
    xhat = xc @ np.diag(1 / s)
    y = xhat @ np.diag(gamma) + np.outer(np.ones(N), beta)
    return y, (H, xhat, s, gamma)

def batchnorm_backward(dy, cache):
    H, xhat, s, gamma = cache
    N = dy.shape[0]
    one = np.ones(N)
    dgamma = one @ (dy * xhat)
    dbeta = one @ dy
    g = dy @ np.diag(gamma)
    dx = (H @ g - xhat @ np.diag(one @ (g * xhat) / N)) @ np.diag(1 / s)
    return dx, dgamma, dbeta
