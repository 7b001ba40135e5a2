import numpy as np

def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get('eps', 1e-5)
    N, C, H, W = x.shape
    rows = np.reshape(x, (N * G, -1))              # a group is a row: layer norm from here on
    mean = rows.mean(axis=1, keepdims=True)
    var = ((rows - mean) ** 2).mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    hat = ((rows - mean) * rstd).reshape(x.shape)
    return hat * gamma + beta, (hat, rstd, gamma, G)

def spatial_groupnorm_backward(dout, cache):
    hat, rstd, gamma, G = cache
    N, C, H, W = dout.shape
    dgamma = np.sum(dout * hat, axis=(0, 2, 3))[None, :, None, None]
    dbeta = np.sum(dout, axis=(0, 2, 3)).reshape(1, C, 1, 1)
    g = (dout * gamma).reshape(N * G, -1)
    h = hat.reshape(N * G, -1)
    size = g.shape[1]
    dx = rstd * (g - g.sum(1, keepdims=True) / size - h * (g * h).sum(1, keepdims=True) / size)
    return dx.reshape(N, C, H, W), dgamma, dbeta
