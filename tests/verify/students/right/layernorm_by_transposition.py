import numpy as np

# The batch norm code, on x.T.

def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get('eps', 1e-5)
    xt = x.T
    mu = np.mean(xt, axis=0)
    xmu = xt - mu
    var = np.mean(xmu ** 2, axis=0)
    std = np.sqrt(var + eps)
    xhat = xmu / std
    out = (gamma.reshape(-1, 1) * xhat + beta[:, np.newaxis]).T
    return out, (gamma, xhat, std)

def layernorm_backward(dout, cache):
    gamma, xhat, std = cache
    dt = dout.T
    D = dt.shape[0]
    dgamma = np.sum(dt * xhat, axis=1)
    dbeta = np.sum(dt, axis=1)
    dxhat = gamma.reshape(-1, 1) * dt
    dx = (1.0 / D) / std * (D * dxhat - np.sum(dxhat, axis=0) - xhat * np.sum(dxhat * xhat, axis=0))
    return dx.T, dgamma, dbeta
