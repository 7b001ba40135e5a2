import numpy as np

def windows(xp, HH, WW, s, Ho, Wo):
    N, C = xp.shape[:2]
    cols = np.empty((N, C, HH, WW, Ho, Wo), dtype=xp.dtype)
    for a in range(HH):
        for b in range(WW):
            cols[:, :, a, b] = xp[:, :, a:a + s * Ho:s, b:b + s * Wo:s]
    return cols

def conv_forward_naive(x, w, b, conv_param):
    s, p = conv_param['stride'], conv_param['pad']
    F, C, HH, WW = w.shape
    N, _, H, W = x.shape
    Ho, Wo = (H + 2 * p - HH) // s + 1, (W + 2 * p - WW) // s + 1
    xp = np.zeros((N, C, H + 2 * p, W + 2 * p), dtype=x.dtype)
    xp[:, :, p:p + H, p:p + W] = x
    cols = windows(xp, HH, WW, s, Ho, Wo)
    out = np.tensordot(w, cols, axes=([1, 2, 3], [1, 2, 3])).transpose(1, 0, 2, 3) + b[:, None, None]
    return out, (x, w, b, conv_param, cols)

def conv_backward_naive(dout, cache):
    x, w, b, conv_param, cols = cache
    s, p = conv_param['stride'], conv_param['pad']
    F, C, HH, WW = w.shape
    N, _, H, W = x.shape
    Ho, Wo = dout.shape[2:]
    db = dout.sum((0, 2, 3))
    dw = np.tensordot(dout, cols, axes=([0, 2, 3], [0, 4, 5]))
    dcols = np.tensordot(w, dout, axes=([0], [1])).transpose(3, 0, 1, 2, 4, 5)
    dxp = np.zeros((N, C, H + 2 * p, W + 2 * p), dtype=x.dtype)
    for a in range(HH):
        for c in range(WW):
            dxp[:, :, a:a + s * Ho:s, c:c + s * Wo:s] += dcols[:, :, a, c]
    return dxp[:, :, p:p + H, p:p + W], dw, db
