import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    import numpy
    from numpy import sqrt
    n = len(x)
    mean = numpy.sum(x, axis=0) / n
    std = sqrt(numpy.sum((x - mean) ** 2, axis=0) / n + eps)
    return gamma * (x - mean) / std + beta, (x, mean, std, gamma)

def batchnorm_backward(dout, cache):
    import numpy as xp
    x, mean, std, gamma = cache
    if (n := len(dout)) == 0:
        return dout, 0 * gamma, 0 * gamma
    hat = (x - mean) / std
    dgamma, dbeta = xp.sum(dout * hat, axis=0), xp.sum(dout, axis=0)
    return gamma / std * (dout - dbeta / n - hat * dgamma / n), dgamma, dbeta
