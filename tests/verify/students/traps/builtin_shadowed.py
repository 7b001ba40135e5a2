import numpy as np

XHAT = {"shift": {"x": "N D", "b": "D"}}

def sum(rows):
    total = 0
    for row in rows[1:]:
        total = total + row
    return total

def shift_forward(x, b):
    return x + b, None

def shift_backward(dout, cache):
    return dout.copy(), sum(dout)
