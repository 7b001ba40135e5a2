import numpy as np

XHAT = {"squared_error_loss": {"y": "N K", "t": "N K", "gradients": "dy"}}

def squared_error_loss(y, t):
    diff = y - t
    loss = np.mean(diff ** 2)
    return loss, 2 * diff
