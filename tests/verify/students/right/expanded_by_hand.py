import numpy as np

# xhat is never formed: everything in x, mean and rstd.
def batchnorm_forward(x, gamma, beta, eps):
    N = x.shape[0]
    s1 = np.sum(x, 0)
    s2 = np.sum(x * x, 0)
    mean = s1 / N
    var = s2 / N - mean * mean
    rstd = (var + eps) ** (-1 / 2)
    return x * (gamma * rstd) + (beta - mean * gamma * rstd), (x, mean, rstd, gamma)

def batchnorm_backward(dy, cache):
    x, mean, rstd, gamma = cache
    N = x.shape[0]
    sdy = np.sum(dy, 0)
    sdyx = np.sum(dy * x, 0)
    dgamma = (sdyx - mean * sdy) * rstd
    a = gamma * rstd
    b = -gamma * rstd ** 2 * dgamma / N
    c = -a * sdy / N - b * mean
    return a * dy + b * x + c, dgamma, sdy
