import numpy as np

def softmax_loss(x, y):
    N = x.shape[0]
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.sum(np.log(p[range(N), y])) / N
    dx = p / N
    dx[range(N), y] = dx[range(N), y] * (1 - dx[range(N), y])
    return loss, dx
