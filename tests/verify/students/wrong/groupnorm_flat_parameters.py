import numpy as np

def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get('eps', 1e-5)
    N, C, H, W = x.shape
    xg = x.reshape(N, G, C // G, H, W)
    mu = xg.mean(axis=(2, 3, 4), keepdims=True)
    std = np.sqrt(xg.var(axis=(2, 3, 4), keepdims=True) + eps)
    hat = ((xg - mu) / std).reshape(N, C, H, W)
    return gamma * hat + beta, (hat, std, gamma, G)

def spatial_groupnorm_backward(dout, cache):
    hat, std, gamma, G = cache
    N, C, H, W = dout.shape
    dgamma = (dout * hat).sum(axis=(0, 2, 3))
    dbeta = dout.sum(axis=(0, 2, 3))
    g, h = (dout * gamma).reshape(N, G, -1), hat.reshape(N, G, -1)
    s = std.reshape(N, G, 1)
    dx = (g - g.mean(axis=2, keepdims=True) - h * (g * h).mean(axis=2, keepdims=True)) / s
    return dx.reshape(N, C, H, W), dgamma, dbeta
