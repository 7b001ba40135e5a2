# Andrew-style: a column is an example. Shapes: Z (n, m), gamma (n, 1), beta (n, 1).
import numpy as np

XHAT = {"batch_norm": {"Z": "D N", "gamma": "D 1", "beta": "D 1", "eps": "eps"}}


def batch_norm_forward(Z, gamma, beta, eps):
    m = Z.shape[1]
    mu = np.sum(Z, axis=1, keepdims=True) / m
    sigma2 = np.sum((Z - mu) ** 2, axis=1, keepdims=True) / m
    Z_norm = (Z - mu) / np.sqrt(sigma2 + eps)
    Z_tilde = np.multiply(gamma, Z_norm) + beta
    return Z_tilde, {"Z": Z, "mu": mu, "sigma2": sigma2, "Z_norm": Z_norm, "gamma": gamma, "eps": eps}


def batch_norm_backward(dZ_tilde, cache):
    m = dZ_tilde.shape[1]
    std = np.sqrt(cache["sigma2"] + cache["eps"])
    dgamma = np.sum(np.multiply(dZ_tilde, cache["Z_norm"]), axis=1, keepdims=True)
    dbeta = np.sum(dZ_tilde, axis=1, keepdims=True)
    dZ_norm = np.multiply(dZ_tilde, cache["gamma"])
    dsigma2 = np.sum(dZ_norm * (cache["Z"] - cache["mu"]), axis=1, keepdims=True) * (-1 / 2) / std ** 3
    dmu = -np.sum(dZ_norm / std, axis=1, keepdims=True) - 2 * dsigma2 * np.sum(cache["Z"] - cache["mu"], axis=1, keepdims=True) / m
    dZ = dZ_norm / std + 2 * dsigma2 * (cache["Z"] - cache["mu"]) / m + dmu / m
    return dZ, dgamma, dbeta
