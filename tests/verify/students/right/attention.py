import numpy as np

XHAT = {"attention": {"q": "N D", "k": "M D", "v": "M E"}}

def attention_forward(q, k, v):
    scores = q @ k.T / 2
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    return weights @ v, (q, k, v, weights)

def attention_backward(dout, cache):
    q, k, v, a = cache
    dv = a.T @ dout
    da = dout @ v.T
    ds = a * (da - (da * a).sum(axis=1, keepdims=True))
    dq = ds @ k / 2
    dk = ds.T @ q / 2
    return dq, dk, dv
