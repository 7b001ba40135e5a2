"""Layers as people write them, and wrong ones, for the test of gradients without rounding."""

# ruff: noqa: NPY002, RUF059  written as people write it

import math

import numpy as np
from numpy import maximum, sqrt

from xhat.verify.problem import Problem


def problem(forward, backward, inputs, *, scalars=(), labels=None, smallest=None, **constants):
    """Pose a pair whose arguments are its inputs, labels, scalars and constants, in this order."""
    names = (*inputs, *(labels or {}), *scalars)

    def arguments(values):
        return tuple(values[name] for name in names), {
            k: v.copy() if isinstance(v, dict) else v for k, v in constants.items()
        }

    shapes = {name: tuple(axes.split()) for name, axes in inputs.items()}
    return Problem(
        forward.__name__,
        forward,
        backward,
        shapes,
        arguments,
        [smallest] if smallest else [],
        scalars=scalars,
        labels=labels or {},
    )


# --- normalizations


def batch_steps(x, gamma, beta, bn_param):
    eps = bn_param.get("eps", 1e-5)
    N, D = x.shape
    running_mean = bn_param.get("running_mean", np.zeros(D, dtype=x.dtype))
    mu = 1.0 / N * np.sum(x, axis=0)
    xmu = x - mu
    sq = xmu**2
    var = 1.0 / N * np.sum(sq, axis=0)
    sqrtvar = np.sqrt(var + eps)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar
    out = gamma * xhat + beta
    bn_param["running_mean"] = 0.9 * running_mean + (1 - 0.9) * mu
    return out, (xhat, gamma, xmu, ivar, sqrtvar, var, eps)


def batch_steps_backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var, eps = cache
    N, D = dout.shape
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / (sqrtvar**2) * divar
    dvar = 0.5 * 1.0 / np.sqrt(var + eps) * dsqrtvar
    dsq = 1.0 / N * np.ones((N, D)) * dvar
    dxmu2 = 2 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -1 * np.sum(dxmu1 + dxmu2, axis=0)
    dx2 = 1.0 / N * np.ones((N, D)) * dmu
    return dx1 + dx2, dgamma, dbeta


def batch_closed(x, gamma, beta, eps):
    mean, var = x.mean(axis=0), x.var(axis=0)
    rstd = (var + eps) ** -0.5
    x_hat = (x - mean) * rstd
    return gamma * x_hat + beta, {"x_hat": x_hat, "gamma": gamma, "rstd": rstd}


def batch_closed_backward(dout, cache):
    x_hat, gamma, rstd = cache["x_hat"], cache["gamma"], cache["rstd"]
    N = float(dout.shape[0])
    dbeta = dout.sum(0)
    dgamma = np.einsum("nd,nd->d", dout, x_hat)
    dx = (gamma * rstd / N) * (N * dout - dbeta - x_hat * dgamma)
    return {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def batch_in_place(x, gamma, beta, eps):
    x_hat = x.copy()
    x_hat -= np.mean(x, axis=0)
    std = np.std(x, axis=0)
    rstd = np.reciprocal(np.sqrt(np.square(std) + eps))
    x_hat *= rstd
    out = np.empty_like(x)
    np.multiply(x_hat, gamma, out=out)
    out += beta
    return out, (x_hat, gamma, rstd)


def batch_in_place_backward(dout, cache):
    x_hat, gamma, rstd = cache
    dgamma, dbeta = (dout * x_hat).sum(axis=0), dout.sum(axis=0)
    dx = dout * gamma
    dx -= dx.mean(axis=0) + x_hat * np.mean(dx * x_hat, axis=0)
    dx *= rstd
    return dx, dgamma, dbeta


def batch_columns(x, gamma, beta, eps):  # features × samples
    D, N = x.shape
    mean = np.dot(x, np.ones((N, 1))) / N
    centred = x - mean
    std = np.sqrt(np.dot(centred**2, np.ones((N, 1))) / N + eps)
    x_hat = centred / std
    return np.dot(np.diag(gamma), x_hat) + beta[:, None], (x_hat, gamma, std)


def batch_columns_backward(dy, cache):
    x_hat, gamma, std = cache
    H = np.eye(dy.shape[1]) - np.ones((dy.shape[1],) * 2) / dy.shape[1]
    inner = (dy @ H) - x_hat * np.mean(dy * x_hat, axis=1, keepdims=True)
    return gamma.reshape(-1, 1) / std * inner, np.sum(dy * x_hat, axis=1), np.sum(dy, 1)


def batch_loops(x, gamma, beta, eps):
    N, D = x.shape
    out, x_hat, rstd = np.zeros((N, D)), np.zeros((N, D)), np.zeros(D)
    for d in range(D):
        mean = sum(x[n, d] for n in range(N)) / N
        var = 0.0
        for n in range(N):
            var += (x[n, d] - mean) ** 2 / N
        rstd[d] = 1 / math.sqrt(var + eps)
        for n in range(N):
            x_hat[n, d] = (x[n, d] - mean) * rstd[d]
            out[n, d] = gamma[d] * x_hat[n, d] + beta[d]
    return out, (x_hat, gamma, rstd)


def layer(x, gamma, beta, ln_param):
    mean = np.mean(x, axis=1, keepdims=True)
    var = np.var(x, axis=1, keepdims=True)
    std = np.sqrt(var + ln_param.get("eps", 1e-5))
    x_hat = (x - mean) / std
    return x_hat * gamma + beta, (x_hat, gamma, std)


def layer_backward(dout, cache):
    x_hat, gamma, std = cache
    D = dout.shape[-1]
    g = dout * gamma
    dx = (D * g - np.sum(g, 1)[:, np.newaxis] - x_hat * np.sum(g * x_hat, axis=1)[:, None]) / (D * std)
    return dx, np.sum(dout * x_hat, axis=0), np.sum(dout, axis=0)


def group(x, gamma, beta, eps, G):
    N, C, H, W = x.shape
    grouped = x.reshape((N * G, -1)).T
    mean = np.mean(grouped, axis=0)
    std = np.sqrt(np.var(grouped, axis=0) + eps)
    x_hat = ((grouped - mean) / std).T.reshape(N, C, H, W)
    return gamma * x_hat + beta, (G, x_hat, gamma, std)


def group_backward(dout, cache):
    G, x_hat, gamma, std = cache
    N, C, H, W = dout.shape
    dgamma = np.sum(dout * x_hat, axis=(0, 2, 3), keepdims=True)
    dbeta = np.sum(dout, axis=(0, 2, 3), keepdims=True)
    g = (dout * gamma).reshape((N * G, -1)).T
    h = x_hat.reshape((N * G, -1)).T
    M = g.shape[0]
    dx = (g - g.sum(axis=0) / M - h * np.sum(g * h, axis=0) / M) / std
    return dx.T.reshape(N, C, H, W), dgamma, dbeta


def rms(x, gamma, eps):
    rms = sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return gamma * x / rms, (x, gamma, rms)


def rms_backward(dy, cache):
    x, gamma, rms = cache
    g = dy * gamma
    return g / rms - x * (g * x).mean(-1, keepdims=True) / rms**3, (dy * x / rms).sum(axis=0)


# --- the others


def affine(x, w, b):
    return x.reshape(x.shape[0], -1).dot(w) + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], np.prod(x.shape[1:])).T @ dout
    return dx, dw, np.sum(dout, axis=0)


def relu(x):
    return maximum(0, x), x


def relu_backward(dout, cache):
    return dout * (cache > 0)


def relu_masked_backward(dout, cache):
    dx = np.array(dout, copy=True)
    dx[cache <= 0] = 0
    return dx


def dropout(x, dropout_param):
    p = dropout_param["p"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = (np.random.rand(*x.shape) < p) / p
    return (x * mask).astype(x.dtype, copy=False), (dropout_param, mask)


def dropout_backward(dout, cache):
    return dout * cache[1]


def conv(x, w, b, conv_param):
    pad, stride = conv_param["pad"], conv_param["stride"]
    N, C, H, W = x.shape
    F, C, HH, WW = w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant", constant_values=0)
    rows, columns = 1 + (H + 2 * pad - HH) // stride, int(1 + (W + 2 * pad - WW) / stride)
    out = np.zeros((N, F, rows, columns))
    for n in range(N):
        for f in range(F):
            for i in range(rows):
                for j in range(columns):
                    patch = padded[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
                    out[n, f, i, j] = np.sum(patch * w[f]) + b[f]
    return out, (x, w, b, conv_param)


def conv_backward(dout, cache):
    x, w, b, conv_param = cache
    pad, stride = conv_param["pad"], conv_param["stride"]
    HH, WW = w.shape[2:]
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant")
    dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(*dout.shape):
        at = np.s_[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
        db[f] += dout[n, f, i, j]
        dw[f] += padded[at] * dout[n, f, i, j]
        dpadded[at] += w[f] * dout[n, f, i, j]
    return dpadded[:, :, pad:-pad, pad:-pad], dw, db


def pool(x, size):
    N, C, H, W = x.shape
    out = np.zeros((N, C, H // size, W // size))
    for i in range(H // size):
        for j in range(W // size):
            out[:, :, i, j] = np.max(x[:, :, i * size : (i + 1) * size, j * size : (j + 1) * size], axis=(2, 3))
    return out, (x, size)


def pool_backward(dout, cache):
    x, size = cache
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * size : (i + 1) * size, j * size : (j + 1) * size]
        k, m = np.unravel_index(np.argmax(window, axis=None), window.shape)
        dx[n, c, i * size + k, j * size + m] = dout[n, c, i, j]
    return dx


def pool_masked_backward(dout, cache):
    x, size = cache
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dout.shape):
        at = np.s_[n, c, i * size : (i + 1) * size, j * size : (j + 1) * size]
        dx[at] += (x[at] == x[at].max()) * dout[n, c, i, j]
    return dx


def softmax_shifted(x, y):
    shifted = x - np.max(x, axis=1, keepdims=True)
    Z = np.sum(np.exp(shifted), axis=1, keepdims=True)
    log_probs = shifted - np.log(Z)
    probs = np.exp(shifted) / Z
    N = x.shape[0]
    loss = -np.sum(log_probs[np.arange(N), y]) / N
    dx = probs.copy()
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx


def softmax_plain(x, y):
    p = np.exp(x)
    p /= p.sum(axis=1, keepdims=True)
    one_hot = np.eye(x.shape[1])[y]
    return -np.mean(np.sum(one_hot * np.log(p), axis=1)), (p - one_hot) / len(x)


def svm(x, y):
    N = x.shape[0]
    correct = x[np.arange(N), y]
    margins = np.maximum(0, x - correct[:, np.newaxis] + 1.0)
    margins[np.arange(N), y] = 0
    loss = np.sum(margins) / N
    num_pos = np.sum(margins > 0, axis=1)
    dx = np.zeros_like(x)
    dx[margins > 0] = 1
    dx[np.arange(N), y] -= num_pos
    dx /= N
    return loss, dx


def attention(q, k, v):
    scores = q @ k.T / np.sqrt(q.shape[1])
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p @ v, (q, k, v, p)


def attention_backward(dy, cache):
    q, k, v, p = cache
    dp = dy @ v.T
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / math.sqrt(q.shape[1])
    return ds @ k, ds.T @ q, p.T @ dy


def tanh(x):
    y = np.tanh(x)
    return y, y


def tanh_backward(dy, y):
    return dy * (1 - y**2)


def silu(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, (x, s)


def silu_backward(dy, cache):
    x, s = cache
    return dy * s * (1 + x * (1 - s))


def leaky(x):
    return np.where(x > 0, x, 0.01 * x), x > 0


def leaky_backward(dy, positive):
    dx = dy.copy()
    dx[~positive] *= 0.01
    return dx


def sandwich(x, w, b, gamma, beta, eps):
    scores, first = affine(x, w, b)
    normed, second = batch_closed(scores, gamma, beta, eps)
    y, third = relu(normed)
    return y, (first, second, third)


def sandwich_backward(dy, cache):
    first, second, third = cache
    grads = batch_closed_backward(relu_backward(dy, third), second)
    return *affine_backward(grads["dx"], first), grads["dgamma"], grads["dbeta"]


NORM = {"x": "N D", "gamma": "D", "beta": "D"}
GROUP = {"x": "N C H W", "gamma": "1 C 1 1", "beta": "1 C 1 1"}
IMAGES = {"x": "N C H H", "w": "F C K K", "b": "F"}
LABELS = {"y": ("N", "C")}
ND = {"N": 4, "D": 3}
NCHW = {"N": 2, "C": 4, "H": 2, "W": 3}
CONV = {"N": 2, "C": 2, "H": 4, "F": 2, "K": 3}
POOL = {"N": 2, "C": 2, "H": 4}
NC = {"N": 4, "C": 3}
QKV = {"N": 3, "D": 4, "M": 2, "C": 2}
EPS = ("eps",)

RIGHT = {
    "batch norm, nine steps, eps fixed": (
        problem(batch_steps, batch_steps_backward, NORM, bn_param={"mode": "train"}),
        ND,
    ),
    "batch norm, closed form": (problem(batch_closed, batch_closed_backward, NORM, scalars=EPS), ND),
    "batch norm, in place": (problem(batch_in_place, batch_in_place_backward, NORM, scalars=EPS), ND),
    "batch norm, features × samples": (
        problem(batch_columns, batch_columns_backward, {"x": "D N", "gamma": "D", "beta": "D"}, scalars=EPS),
        ND,
    ),
    "batch norm, loops": (problem(batch_loops, batch_in_place_backward, NORM, scalars=EPS), ND),
    "layer norm": (problem(layer, layer_backward, NORM, ln_param={}), ND),
    "group norm": (problem(group, group_backward, GROUP, scalars=EPS, G=2), NCHW),
    "instance norm": (problem(group, group_backward, GROUP, scalars=EPS, G=4), NCHW | {"N": 1}),
    "RMS norm": (problem(rms, rms_backward, {"x": "N D", "gamma": "D"}, scalars=EPS), ND),
    "affine": (
        problem(affine, affine_backward, {"x": "N A B", "w": "A*B M", "b": "M"}),
        {"N": 2, "A": 2, "B": 3, "M": 2},
    ),
    "relu": (problem(relu, relu_backward, {"x": "N D"}), ND),
    "relu, a mask written": (problem(relu, relu_masked_backward, {"x": "N D"}), ND),
    "leaky relu": (problem(leaky, leaky_backward, {"x": "N D"}), ND),
    "dropout without a seed": (problem(dropout, dropout_backward, {"x": "N D"}, dropout_param={"p": 0.5}), ND),
    "dropout": (problem(dropout, dropout_backward, {"x": "N D"}, dropout_param={"p": 0.7, "seed": 3}), ND),
    "convolution": (problem(conv, conv_backward, IMAGES, conv_param={"pad": 1, "stride": 1}), CONV),
    "max pool": (problem(pool, pool_backward, {"x": "N C H H"}, size=2), POOL),
    "max pool, masks": (problem(pool, pool_masked_backward, {"x": "N C H H"}, size=2), POOL),
    "softmax loss, shifted": (problem(softmax_shifted, None, {"x": "N C"}, labels=LABELS), NC),
    "softmax loss, plain": (problem(softmax_plain, None, {"x": "N C"}, labels=LABELS), NC),
    "SVM loss": (problem(svm, None, {"x": "N C"}, labels=LABELS), NC),
    "attention": (problem(attention, attention_backward, {"q": "N D", "k": "M D", "v": "M C"}), QKV),
    "tanh": (problem(tanh, tanh_backward, {"x": "N D"}), ND),
    "SiLU": (problem(silu, silu_backward, {"x": "N D"}), ND),
    "affine, batch norm, relu": (
        problem(
            sandwich, sandwich_backward, {"x": "N D", "w": "D M", "b": "M", "gamma": "M", "beta": "M"}, scalars=EPS
        ),
        {"N": 3, "D": 2, "M": 2},
    ),
}
