import numpy as np

XHAT = {
    "silu": {"x": "N D"}, "tanh": {"x": "N D"}, "sigmoid": {"x": "N D"}, "leaky_relu": {"x": "N D", "slope": 0.25},
    "softplus": {"x": "N D"}, "swish": {"x": "N D", "b": "D"}, "log_softmax": {"x": "N D"},
}

def silu_forward(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, (x, s)

def silu_backward(dy, cache):
    x, s = cache
    return dy * (s + x * s * (1 - s))

def tanh_forward(x):
    t = np.tanh(x)
    return t, t

def tanh_backward(dy, t):
    return dy * (1 - t ** 2)

def sigmoid_forward(x):
    s = 1. / (1. + np.exp(-x))
    return s, s

def sigmoid_backward(dout, s):
    return dout * s * (1. - s)

def leaky_relu_forward(x, slope):
    return np.where(x > 0, x, slope * x), (x, slope)

def leaky_relu_backward(dy, cache):
    x, slope = cache
    dx = dy.copy()
    dx[x <= 0] *= slope
    return dx

def softplus_forward(x):
    return np.log(1 + np.exp(x)), x

def softplus_backward(dy, x):
    return dy / (1 + np.exp(-x))

def swish_forward(x, b):
    s = 1 / (1 + np.exp(-b * x))
    return x * s, (x, b, s)

def swish_backward(dy, cache):
    x, b, s = cache
    slope = s * (1 - s)
    return dy * (s + b * x * slope), np.sum(dy * x * x * slope, axis=0)

def log_softmax_forward(x):
    y = x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))
    return y, y

def log_softmax_backward(dy, y):
    return dy - np.exp(y) * np.sum(dy, axis=1, keepdims=True)
