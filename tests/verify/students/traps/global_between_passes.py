import numpy as np

XHAT = {"scale": {"x": "N D", "gamma": "D"}}
last_x = None

def scale_forward(x, gamma):
    global last_x
    last_x = x
    return x * gamma, gamma

def scale_backward(dout, gamma):
    return dout * gamma, (dout * last_x).sum(axis=0)
