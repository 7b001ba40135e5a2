import numpy as np

XHAT = {"quadratic_loss": {"v": "D", "A": "D D"}}

def quadratic_loss(v, A):
    return v @ A @ v, 2 * A @ v, np.outer(v, v)
