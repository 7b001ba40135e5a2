import numpy as np

def batchnorm_forward(X, gamma, beta, eps=1e-5):
    N, D = X.shape
    mean = np.zeros(D)
    for i in range(N):
        mean += X[i]
    mean /= N
    var = np.zeros(D)
    for i in range(N):
        var += (X[i] - mean) ** 2
    var /= N
    std = np.sqrt(var + eps)
    out = np.empty_like(X)
    for i in range(N):
        out[i] = gamma * (X[i] - mean) / std + beta
    return out, (X, mean, std, gamma)

def batchnorm_backward(dout, cache):
    X, mean, std, gamma = cache
    N, D = X.shape
    dgamma = np.zeros(D)
    dbeta = np.zeros(D)
    for g, row in zip(dout, X):
        dbeta += g
        dgamma += g * (row - mean) / std
    dX = np.zeros((N, D))
    for i in range(N):
        for k in range(N):
            # d out[k] / d X[i], for all features at once
            same = 1.0 if i == k else 0.0
            xi = (X[i] - mean) / std
            xk = (X[k] - mean) / std
            dX[i] += dout[k] * gamma / std * (same - 1.0 / N - xi * xk / N)
    return dX, dgamma, dbeta
