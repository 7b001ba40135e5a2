import numpy as np

def max_pool_forward_naive(x, pool_param):
    ph, pw, s = (pool_param[k] for k in ('pool_height', 'pool_width', 'stride'))
    N, C, H, W = x.shape
    Ho, Wo = (H - ph) // s + 1, (W - pw) // s + 1
    out = np.empty((N, C, Ho, Wo), dtype=x.dtype)
    for i in range(Ho):
        for j in range(Wo):
            out[:, :, i, j] = x[:, :, s*i:s*i+ph, s*j:s*j+pw].max(axis=3).max(axis=2)
    return out, (x, out, pool_param)

def max_pool_backward_naive(dout, cache):
    x, out, pool_param = cache
    ph, pw, s = (pool_param[k] for k in ('pool_height', 'pool_width', 'stride'))
    dx = np.zeros(x.shape, dtype=x.dtype)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            window = x[:, :, s*i:s*i+ph, s*j:s*j+pw]
            mask = window == out[:, :, i, j][:, :, None, None]
            share = mask / mask.sum(axis=(2, 3), keepdims=True)      # ties share
            dx[:, :, s*i:s*i+ph, s*j:s*j+pw] += share * dout[:, :, i:i+1, j:j+1]
    return dx
