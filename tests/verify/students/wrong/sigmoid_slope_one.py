import numpy as np

XHAT = {"net_loss": {"X": "N D", "W1": "D H", "W2": "H K", "T": "N K", "gradients": "dW1 dW2"}}

def net_loss(X, W1, W2, T):
    N = len(X)
    hidden = 1 / (1 + np.exp(-X @ W1))
    error = hidden @ W2 - T
    loss = np.sum(error ** 2) / (2 * N)
    dW2 = hidden.T @ error / N
    dhidden = error @ W2.T / N
    dW1 = X.T @ dhidden
    return loss, dW1, dW2
