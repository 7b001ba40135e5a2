import math
import numpy as np

def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get('eps', 1e-5)
    n, d = x.shape
    out = np.zeros((n, d))
    norm = np.zeros((n, d))
    sigma = np.zeros(n)
    for i in range(n):
        total = 0
        for j in range(d):
            total += x[i, j]
        mean = total / d
        square = 0
        for j in range(d):
            square += (x[i, j] - mean) * (x[i, j] - mean)
        sigma[i] = math.sqrt(square / d + eps)
        for j in range(d):
            norm[i, j] = (x[i, j] - mean) / sigma[i]
            out[i, j] = gamma[j] * norm[i, j] + beta[j]
    return out, (norm, sigma, gamma)

def layernorm_backward(dout, cache):
    norm, sigma, gamma = cache
    n, d = dout.shape
    dx = np.zeros((n, d))
    dgamma = np.zeros(d)
    dbeta = np.zeros(d)
    for i in range(n):
        first = 0
        second = 0
        for j in range(d):
            dgamma[j] += dout[i, j] * norm[i, j]
            dbeta[j] += dout[i, j]
            first += dout[i, j] * gamma[j]
            second += dout[i, j] * gamma[j] * norm[i, j]
        for j in range(d):
            dx[i, j] = (dout[i, j] * gamma[j] - first / d - norm[i, j] * second / d) / sigma[i]
    return dx, dgamma, dbeta
