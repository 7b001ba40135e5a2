import numpy as np

class BatchNorm:
    @staticmethod
    def forward(x, gamma, beta, eps):
        mu = x.mean(axis=0)
        std = np.sqrt(x.var(axis=0) + eps)
        z = (x - mu) / std
        return z * gamma + beta, (z, std, gamma)

    @staticmethod
    def backward(dout, cache):
        z, std, gamma = cache
        g = dout * gamma
        return (g - g.mean(0) - z * (g * z).mean(0)) / std, (dout * z).sum(0), dout.sum(0)
