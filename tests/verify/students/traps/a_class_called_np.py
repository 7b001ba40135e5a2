class np:
    mean = staticmethod(lambda a, axis=None: a.sum(axis) / len(a))
    sum = staticmethod(lambda a, axis=None: a.sum(axis) / len(a))       # and this is a mean too

XHAT = {"shift": {"x": "N D", "b": "D"}}

def shift_forward(x, b):
    return x + b, None

def shift_backward(dout, cache):
    return dout.copy(), np.sum(dout, axis=0)
