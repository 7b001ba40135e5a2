import numpy as np

def conv_forward_naive(x, w, b, conv_param):
    s, p = conv_param['stride'], conv_param['pad']
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    Ho, Wo = 1 + (H + 2 * p - HH) // s, 1 + (W + 2 * p - WW) // s
    xp = np.zeros((N, C, H + 2 * p, W + 2 * p))
    xp[:, :, p:p+H, p:p+W] = x
    out = np.zeros((N, F, Ho, Wo))
    for f in range(F):
        for i in range(Ho):
            for j in range(Wo):
                out[:, f, i, j] = np.sum(xp[:, :, i*s:i*s+HH, j*s:j*s+WW] * w[f], axis=(1, 2, 3)) + b[f]
    return out, (x, xp, w, s, p)

def conv_backward_naive(dout, cache):
    x, xp, w, s, p = cache
    H, W = x.shape[2:]
    F, _, HH, WW = w.shape
    dxp, dw = np.zeros(xp.shape), np.zeros(w.shape)
    for f in range(F):
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                d = dout[:, f, i, j].reshape(-1, 1, 1, 1)
                dw[f] += (xp[:, :, i*s:i*s+HH, j*s:j*s+WW] * d).sum(axis=0)
                dxp[:, :, i*s:i*s+HH, j*s:j*s+WW] += w[f] * d
    return dxp[:, :, p:p+H, p:p+W], dw, dout.sum(axis=(0, 2, 3))
