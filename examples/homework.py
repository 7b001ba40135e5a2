"""Two layers as somebody hands them in. `xhat check examples/homework.py` says what is right and what is not."""

import numpy as np


def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    N, D = x.shape
    running_mean = bn_param.get("running_mean", np.zeros(D, dtype=x.dtype))
    running_var = bn_param.get("running_var", np.zeros(D, dtype=x.dtype))
    if bn_param["mode"] == "train":
        mu = x.mean(axis=0)
        var = x.var(axis=0)
        std = np.sqrt(var + eps)
        x_hat = (x - mu) / std
        out, cache = gamma * x_hat + beta, (x_hat, gamma, std)
        running_mean = momentum * running_mean + (1 - momentum) * mu
        running_var = momentum * running_var + (1 - momentum) * var
    elif bn_param["mode"] == "test":
        out, cache = gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, None
    else:
        raise ValueError('Invalid forward batchnorm mode "%s"' % bn_param["mode"])
    bn_param["running_mean"] = running_mean
    bn_param["running_var"] = running_var
    return out, cache


def batchnorm_backward(dout, cache):
    x_hat, gamma, std = cache
    N = dout.shape[0]
    dbeta = dout.sum(axis=0)
    dgamma = (dout * x_hat).sum(axis=0)
    dx_hat = dout * gamma
    dx = (dx_hat - x_hat * np.sum(dx_hat * x_hat, axis=0) / N) / std
    return dx, dgamma, dbeta


def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    out, x_hat, std = np.zeros_like(x), np.zeros_like(x), np.zeros(x.shape[0])
    for i in range(x.shape[0]):
        std[i] = np.sqrt(x[i].var() + eps)
        x_hat[i] = (x[i] - x[i].mean()) / std[i]
        out[i] = gamma * x_hat[i] + beta
    return out, (x_hat, gamma, std)


def layernorm_backward(dout, cache):
    x_hat, gamma, std = cache
    dx, dgamma, dbeta = np.zeros_like(dout), np.zeros_like(gamma), np.zeros_like(gamma)
    for i in range(dout.shape[0]):
        g = dout[i] * gamma
        dx[i] = (g - g.mean() - x_hat[i] * (g * x_hat[i]).mean()) / std[i]
        dgamma += dout[i] * x_hat[i]
        dbeta += dout[i]
    return dx, dgamma, dbeta
