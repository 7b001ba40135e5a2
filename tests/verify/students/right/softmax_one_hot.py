import numpy as np

def softmax_loss(x, y):
    N, C = x.shape
    onehot = np.zeros((N, C))
    onehot[np.arange(N), y] = 1
    z = x - x.max(axis=1).reshape(N, 1)
    logsum = np.log(np.exp(z).sum(axis=1)).reshape(N, 1)
    logp = z - logsum
    loss = -(onehot * logp).sum() / N
    dx = (np.exp(logp) - onehot) / N
    return loss, dx
