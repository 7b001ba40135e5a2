import numpy as np


def _sum_rows(a):
    return np.add.reduce(a, axis=0)


def _normalize(x, eps):
    N = x.shape[0]
    mu = _sum_rows(x) / N
    diff = np.subtract(x, mu)
    var = _sum_rows(np.square(diff)) / N
    std = np.sqrt(np.add(var, eps))
    return np.divide(diff, std), mu, var, std


def _remove_mean(a):
    return a - np.sum(a, 0) / a.shape[0]


def _running(bn_param, mu, var):
    keep = bn_param.get("momentum", 0.9)
    for name, value in (("running_mean", mu), ("running_var", var)):
        old = bn_param.get(name, np.zeros_like(value))
        bn_param[name] = keep * old + (1 - keep) * value


def batchnorm_forward(x, gamma, beta, bn_param):
    eps = bn_param.get("eps", 1e-5)
    if bn_param["mode"] == "train":
        xhat, mu, var, std = _normalize(x, eps)
        _running(bn_param, mu, var)
        return gamma * xhat + beta, dict(xhat=xhat, std=std, gamma=gamma)
    if bn_param["mode"] == "test":
        D = x.shape[1]
        mean = bn_param.get("running_mean", np.zeros(D))
        var = bn_param.get("running_var", np.zeros(D))
        return gamma * (x - mean) / np.sqrt(var + eps) + beta, None
    raise ValueError("mode must be train or test")


def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache["xhat"], cache["std"], cache["gamma"]
    dgamma = _sum_rows(dout * xhat)
    dbeta = _sum_rows(dout)
    dxhat = dout * gamma
    coefficient = _sum_rows(dxhat * xhat) / _sum_rows(np.ones_like(xhat))
    dx = (_remove_mean(dxhat) - xhat * coefficient) / std
    return dx, dgamma, dbeta
