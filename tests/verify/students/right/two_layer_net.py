# A two-layer network with squared error, all gradients by hand.
import numpy as np

XHAT = {
    "sigmoid_net_loss": {"X": "N D", "W1": "D H", "b1": "H", "W2": "H K", "b2": "K", "T": "N K", "gradients": "dW1 db1 dW2 db2"},
    "relu_net_loss": {"X": "N D", "W1": "D H", "b1": "H", "W2": "H K", "b2": "K", "T": "N K", "gradients": "dW1 db1 dW2 db2"},
}

def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))

def sigmoid_net_loss(X, W1, b1, W2, b2, T):
    N = X.shape[0]
    A = sigmoid(X @ W1 + b1)
    Y = A @ W2 + b2
    E = Y - T
    loss = np.sum(E ** 2) / N

    dY = 2 * E / N
    dW2 = A.T @ dY
    db2 = dY.sum(axis=0)
    dA = dY @ W2.T
    dZ = dA * A * (1 - A)
    dW1 = X.T @ dZ
    db1 = dZ.sum(axis=0)
    return loss, {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}

def relu_net_loss(X, W1, b1, W2, b2, T):
    N = X.shape[0]
    Z = X.dot(W1) + b1
    A = np.maximum(Z, 0)
    E = A.dot(W2) + b2 - T
    loss = 0.5 * np.sum(E * E) / N

    dY = E / N
    dZ = np.where(Z > 0, dY.dot(W2.T), 0)
    return loss, {"dW1": X.T.dot(dZ), "db1": np.sum(dZ, 0), "dW2": A.T.dot(dY), "db2": np.sum(dY, 0)}
