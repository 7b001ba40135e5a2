import numpy as np

def softmax_loss(x, y):
    N = x.shape[0]
    e = np.exp(x - np.max(x))
    p = e / np.sum(e, axis=0)
    loss = -np.sum(np.log(p[np.arange(N), y])) / N
    dx = p.copy()
    dx[np.arange(N), y] -= 1
    return loss, dx / N
