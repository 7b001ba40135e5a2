import numpy as np

XHAT = {"shift": {"x": "N D", "beta": "D"}}

def shift_forward(x, beta):
    return x + 2 * beta, beta

def shift_backward(dout, beta):
    total = np.zeros_like(beta)
    np.sum(dout, axis=0, out=total)
    dbeta = total
    total *= 2
    total *= 2
    return dout.copy(), dbeta
