import numpy as np

def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get('eps', 1e-5)
    N, C, H, W = x.shape
    xg = x.reshape(N, G, -1)
    mu = xg.mean(axis=2, keepdims=True)
    std = np.sqrt(xg.var(axis=2, keepdims=True) + eps)
    hat = ((xg - mu) / std).reshape(N, C, H, W)
    return gamma * hat + beta, (hat, std, gamma, G)

def spatial_groupnorm_backward(dout, cache):
    hat, std, gamma, G = cache
    N, C, H, W = dout.shape
    size = C * H * W
    dgamma = (dout * hat).sum(axis=(0, 2, 3), keepdims=True)
    dbeta = dout.sum(axis=(0, 2, 3), keepdims=True)
    g, h = (dout * gamma).reshape(N, G, -1), hat.reshape(N, G, -1)
    dx = (g - g.sum(axis=2, keepdims=True) / size - h * (g * h).sum(axis=2, keepdims=True) / size) / std
    return dx.reshape(N, C, H, W), dgamma, dbeta
