import numpy as np

def batchnorm_forward(x, gamma, beta, eps):
    out = np.zeros(x.shape)
    columns = []
    for j in range(x.shape[1]):
        col = x[:, j]
        m = col.mean()
        v = np.mean((col - m)**2)
        s = (v + eps)**0.5
        h = (col - m)/s
        out[:, j] = gamma[j]*h + beta[j]
        columns.append((h, s))
    return out, (columns, gamma)

def batchnorm_backward(dout, cache):
    columns, gamma = cache
    n, d = dout.shape
    dx, dgamma, dbeta = np.zeros_like(dout), np.zeros(d), np.zeros(d)
    for j, (h, s) in enumerate(columns):
        g = dout[:, j]
        dgamma[j] = g.dot(h)
        dbeta[j] = g.sum()
        dx[:, j] = gamma[j]/s*(g - dbeta[j]/n - h*dgamma[j]/n)
    return dx, dgamma, dbeta
