"""Whole layers as students write them, and one line of them changed: is the change found, and nothing else?"""

import linecache
import random
import textwrap
import types

import numpy as np
import pytest

from xhat.verify.protocol import protocol
from xhat.verify.report import Word
from xhat.verify.specs import find

LAYERS = """
import numpy as np


def batchnorm_forward(x, gamma, beta, bn_param):
    mode = bn_param['mode']
    eps = bn_param.get('eps', 1e-5)
    momentum = bn_param.get('momentum', 0.9)
    N, D = x.shape
    running_mean = bn_param.get('running_mean', np.zeros(D, dtype=x.dtype))
    running_var = bn_param.get('running_var', np.zeros(D, dtype=x.dtype))
    out, cache = None, None
    if mode == 'train':
        mu = np.mean(x, axis=0)
        xmu = x - mu
        var = np.mean(xmu ** 2, axis=0)
        std = np.sqrt(var + eps)
        xhat = xmu / std
        out = gamma * xhat + beta
        cache = (xhat, gamma, std)
        running_mean = momentum * running_mean + (1 - momentum) * mu
        running_var = momentum * running_var + (1 - momentum) * var
    elif mode == 'test':
        out = gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta
    else:
        raise ValueError('Invalid forward batchnorm mode "%s"' % mode)
    bn_param['running_mean'] = running_mean
    bn_param['running_var'] = running_var
    return out, cache


def batchnorm_backward(dout, cache):
    xhat, gamma, std = cache
    N = dout.shape[0]
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std
    return dx, dgamma, dbeta


def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get('eps', 1e-5)
    x = x.T
    mu = x.mean(axis=0)
    var = x.var(axis=0)
    std = np.sqrt(var + eps)
    xhat = ((x - mu) / std).T
    return gamma * xhat + beta, (xhat, gamma, std)


def layernorm_backward(dout, cache):
    xhat, gamma, std = cache
    dgamma = np.sum(dout * xhat, axis=0)
    dbeta = np.sum(dout, axis=0)
    g = dout * gamma
    D = dout.shape[1]
    dx = (D * g - g.sum(1, keepdims=True) - xhat * (g * xhat).sum(1, keepdims=True)) / (D * std[:, None])
    return dx, dgamma, dbeta


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    N, C, H, W = x.shape
    rows = x.transpose(0, 2, 3, 1).reshape(-1, C)
    out, cache = batchnorm_forward(rows, gamma, beta, bn_param)
    return out.reshape(N, H, W, C).transpose(0, 3, 1, 2), cache


def spatial_batchnorm_backward(dout, cache):
    N, C, H, W = dout.shape
    dx, dgamma, dbeta = batchnorm_backward(dout.transpose(0, 2, 3, 1).reshape(-1, C), cache)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2), dgamma, dbeta


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    eps = gn_param.get('eps', 1e-5)
    N, C, H, W = x.shape
    groups = x.reshape(N, G, C // G, H, W)
    mu = groups.mean(axis=(2, 3, 4), keepdims=True)
    std = np.sqrt(groups.var(axis=(2, 3, 4), keepdims=True) + eps)
    xhat = ((groups - mu) / std).reshape(N, C, H, W)
    return gamma * xhat + beta, (G, xhat, gamma, std)


def spatial_groupnorm_backward(dout, cache):
    G, xhat, gamma, std = cache
    N, C, H, W = dout.shape
    dgamma = np.sum(dout * xhat, axis=(0, 2, 3), keepdims=True)
    dbeta = np.sum(dout, axis=(0, 2, 3), keepdims=True)
    g = (dout * gamma).reshape(N, G, C // G, H, W)
    h = xhat.reshape(N, G, C // G, H, W)
    axes = (2, 3, 4)
    dx = (g - g.mean(axis=axes, keepdims=True) - h * (g * h).mean(axis=axes, keepdims=True)) / std
    return dx.reshape(N, C, H, W), dgamma, dbeta


def affine_forward(x, w, b):
    out = x.reshape(x.shape[0], -1).dot(w) + b
    return out, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], -1).T.dot(dout)
    db = np.sum(dout, axis=0)
    return dx, dw, db


def relu_forward(x):
    out = np.maximum(0, x)
    return out, x


def relu_backward(dout, cache):
    dx = dout * (cache > 0)
    return dx


def dropout_forward(x, dropout_param):
    p, mode = dropout_param['p'], dropout_param['mode']
    if 'seed' in dropout_param:
        np.random.seed(dropout_param['seed'])
    mask = None
    if mode == 'train':
        mask = (np.random.rand(*x.shape) < p) / p
        out = x * mask
    else:
        out = x
    return out.astype(x.dtype, copy=False), (dropout_param, mask)


def dropout_backward(dout, cache):
    dropout_param, mask = cache
    if dropout_param['mode'] == 'train':
        dx = dout * mask
    else:
        dx = dout
    return dx


def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param['stride'], conv_param['pad']
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    rows, columns = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode='constant')
    out = np.zeros((N, F, rows, columns))
    for n in range(N):
        for f in range(F):
            for i in range(rows):
                for j in range(columns):
                    patch = xp[n, :, i * stride:i * stride + HH, j * stride:j * stride + WW]
                    out[n, f, i, j] = np.sum(patch * w[f]) + b[f]
    return out, (x, w, b, conv_param)


def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param['stride'], conv_param['pad']
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode='constant')
    dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.zeros_like(b)
    for n in range(N):
        for f in range(F):
            db[f] += dout[n, f].sum()
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    top, left = i * stride, j * stride
                    dw[f] += xp[n, :, top:top + HH, left:left + WW] * dout[n, f, i, j]
                    dxp[n, :, top:top + HH, left:left + WW] += w[f] * dout[n, f, i, j]
    dx = dxp[:, :, pad:pad + H, pad:pad + W]
    return dx, dw, db


def max_pool_forward_naive(x, pool_param):
    ph, pw, stride = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    N, C, H, W = x.shape
    out = np.zeros((N, C, 1 + (H - ph) // stride, 1 + (W - pw) // stride))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = x[:, :, i * stride:i * stride + ph, j * stride:j * stride + pw].max(axis=(2, 3))
    return out, (x, pool_param)


def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    ph, pw, stride = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    dx = np.zeros_like(x)
    N, C, rows, columns = dout.shape
    for n in range(N):
        for c in range(C):
            for i in range(rows):
                for j in range(columns):
                    window = x[n, c, i * stride:i * stride + ph, j * stride:j * stride + pw]
                    mask = window == window.max()
                    dx[n, c, i * stride:i * stride + ph, j * stride:j * stride + pw] += mask * dout[n, c, i, j]
    return dx


def softmax_loss(x, y):
    shifted = x - x.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    p /= p.sum(axis=1, keepdims=True)
    N = x.shape[0]
    loss = -np.sum(np.log(p[np.arange(N), y])) / N
    dx = p.copy()
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx


def svm_loss(x, y):
    N = x.shape[0]
    margins = np.maximum(0, x - x[np.arange(N), y][:, np.newaxis] + 1.0)
    margins[np.arange(N), y] = 0
    loss = np.sum(margins) / N
    positive = np.sum(margins > 0, axis=1)
    dx = np.zeros_like(x)
    dx[margins > 0] = 1
    dx[np.arange(N), y] -= positive
    dx /= N
    return loss, dx


def affine_relu_forward(x, w, b):
    a, fc_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (fc_cache, relu_cache)


def affine_relu_backward(dout, cache):
    fc_cache, relu_cache = cache
    da = relu_backward(dout, relu_cache)
    return affine_backward(da, fc_cache)


def affine_bn_relu_dropout_forward(x, w, b, gamma, beta, bn_param, dropout_param):
    a, fc_cache = affine_forward(x, w, b)
    n, bn_cache = batchnorm_forward(a, gamma, beta, bn_param)
    r, relu_cache = relu_forward(n)
    out, dropout_cache = dropout_forward(r, dropout_param)
    return out, (fc_cache, bn_cache, relu_cache, dropout_cache)


def affine_bn_relu_dropout_backward(dout, cache):
    fc_cache, bn_cache, relu_cache, dropout_cache = cache
    dn = relu_backward(dropout_backward(dout, dropout_cache), relu_cache)
    da, dgamma, dbeta = batchnorm_backward(dn, bn_cache)
    dx, dw, db = affine_backward(da, fc_cache)
    return dx, dw, db, dgamma, dbeta
"""

PAIRS = {
    "batchnorm": "batchnorm_forward batchnorm_backward",
    "layernorm": "layernorm_forward layernorm_backward",
    "spatial_batchnorm": "spatial_batchnorm_forward spatial_batchnorm_backward",
    "spatial_groupnorm": "spatial_groupnorm_forward spatial_groupnorm_backward",
    "affine": "affine_forward affine_backward",
    "relu": "relu_forward relu_backward",
    "dropout": "dropout_forward dropout_backward",
    "conv_naive": "conv_forward_naive conv_backward_naive",
    "max_pool_naive": "max_pool_forward_naive max_pool_backward_naive",
    "softmax_loss": "softmax_loss",
    "svm_loss": "svm_loss",
    "affine_relu": "affine_relu_forward affine_relu_backward",
    "affine_bn_relu_dropout": "affine_bn_relu_dropout_forward affine_bn_relu_dropout_backward",
}
_COUNT = iter(range(10**6))


def module(text):
    """Return a module made of a text whose lines Python can show."""
    name = f"student{next(_COUNT)}"
    file = f"<{name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    made = types.ModuleType(name)
    made.__file__ = file
    exec(compile(text, file, "exec"), made.__dict__)
    return made


def examined(pair, text=LAYERS, **options):
    made = module(text)
    forward, _, backward = PAIRS.get(pair, f"{pair}_forward {pair}_backward").partition(" ")
    spec = find(pair, getattr(made, forward), getattr(made, backward) if backward else None, **options)
    return protocol(spec)


def line_of(text, part):
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize("pair", PAIRS)
def test_right_code_has_no_findings(pair):
    result = examined(pair)
    assert result.findings == []
    assert {v.word for v in result.verdicts.values()} == {Word.AGREES}, result.verdicts
    assert {"out", "dx"} <= set(result.verdicts) or pair.endswith("dropout")
    if pair.startswith(("batch", "spatial_batch")):
        assert set(result.verdicts) >= {"running_mean", "running_var", "out (test)"}
    remarks = {(remark.kind, remark.message.split()[0]) for remark in result.remarks}
    loops = {("dtype", "the")} if pair in ("conv_naive", "max_pool_naive") else set()  # np.zeros is float64
    if pair == "max_pool_naive":
        loops |= {("ties", "where")}
    elif "dropout" in pair:  # p is a number of float64, and an else stands for every other mode
        loops = {("dtype", name) for name in ("dx", "dw", "db", "dgamma", "dbeta")} | {("mode-accepted", "a")}
    assert remarks <= loops, result.remarks


# pair, (what stands there, what is written instead), what is wrong and with which words, the line's text
VALUES = [
    ("batchnorm", "var = np.mean(xmu ** 2, axis=0)", "var = np.mean(xmu ** 2)", "out", "all entries"),
    ("batchnorm", "xhat = xmu / std", "xhat = xmu - std", "out", "subtracted"),
    ("batchnorm", "xhat = xmu / std", "xhat = xmu * std", "out", "multiplied"),
    ("batchnorm", "xhat = xmu / std", "xhat = x / std", "out", "mean is not subtracted"),
    ("batchnorm", "std = np.sqrt(var + eps)", "std = np.sqrt(var) + eps", "out", "outside"),
    ("batchnorm", "std = np.sqrt(var + eps)", "std = np.sqrt(var)", "out", "eps is left out"),
    ("batchnorm", "std = np.sqrt(var + eps)", "std = var + eps", "out", "instead of its root"),
    ("batchnorm", "eps = bn_param.get('eps', 1e-5)", "eps = 1e-5", "out", "ignored: 1e-5"),
    ("batchnorm", "np.mean(xmu ** 2, axis=0)", "np.var(x, axis=0, ddof=1)", "out", "N - 1"),
    ("batchnorm", "out = gamma * xhat + beta", "out = xhat + beta", "out", "gamma is missing"),
    ("batchnorm", "out = gamma * xhat + beta", "out = gamma * xhat", "out", "beta is missing"),
    ("batchnorm", "dbeta = np.sum(dout, axis=0)", "dbeta = np.mean(dout, axis=0)", "dbeta", "factor N"),
    ("batchnorm", "dgamma = np.sum(dout * xhat, axis=0)", "dgamma = np.sum(dout * xhat, axis=0) * gamma", "dgamma", ""),
    ("batchnorm", "dx = (dxhat - dxhat.mean(axis=0)", "dx = (dxhat", "dx", "not the gradient"),
    ("batchnorm", "- xhat * (dxhat * xhat).mean(axis=0)) / std", ") / std", "dx", "not the gradient"),
    ("batchnorm", "dx = (dxhat -", "dx = -(dxhat -", "dx", "sign"),
    ("batchnorm", "cache = (xhat, gamma, std)", "cache = (xhat, gamma, np.sqrt(var))", "dx", "not the gradient"),
    ("batchnorm", "dx = (dxhat - dxhat.mean", "dx = 0 * (dxhat - dxhat.mean", "dx", "zero"),
    ("batchnorm", "momentum * running_mean + (1 - momentum)", "(1 - momentum) * running_mean + momentum", "running_mean", "exchanged"),
    ("batchnorm", "momentum * running_var + (1 - momentum) * var", "var", "running_var", "overwritten"),
    ("batchnorm", "(1 - momentum) * var", "(1 - momentum) * var * N / (N - 1)", "running_var", "N - 1"),
    ("batchnorm", "(1 - momentum) * var", "(1 - momentum) * (var + eps)", "running_var", "eps"),
    ("batchnorm", "(1 - momentum) * var", "(1 - momentum) * std", "running_var", "root"),
    ("batchnorm", "bn_param.get('momentum', 0.9)", "0.9", "running_mean", "ignored"),
    ("batchnorm", "out = gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta", "out = gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + beta", "out (test)", "batch"),
    ("batchnorm", "np.sqrt(running_var + eps) + beta", "np.sqrt(running_var) + beta", "out (test)", "eps"),
    ("batchnorm", "np.sqrt(running_var + eps) + beta", "(running_var + eps) + beta", "out (test)", "root"),
    ("layernorm", "xhat = ((x - mu) / std).T", "x = x.T; xhat = (x - x.mean(0)) / x.std(0)", "out", ""),
    ("layernorm", "std[:, None])", "std[:, None] ** 2)", "dx", "not the gradient"),
    ("layernorm", "    dx = (D * g", "    D = 1\n    dx = (D * g", "dx", "not the gradient"),
    ("spatial_batchnorm", "rows = x.transpose(0, 2, 3, 1).reshape(-1, C)", "rows = x.reshape(-1, C)", "out", "channels are not last"),
    ("spatial_groupnorm", "x.reshape(N, G, C // G, H, W)\n    mu", "x.reshape(N, C // G, G, H, W)\n    mu", "out", "number of groups"),
    ("spatial_groupnorm", "(dout * gamma).reshape", "dout.reshape", "dx", "not the gradient"),
    ("affine", ".dot(w) + b", ".dot(w)", "out", "b is missing"),
    ("affine", "db = np.sum(dout, axis=0)", "db = np.mean(dout, axis=0)", "db", "factor N"),
    ("relu", "np.maximum(0, x)", "np.abs(x)", "out", "absolute"),
    ("relu", "dx = dout * (cache > 0)", "dx = dout * 1.0", "dx", "not the gradient"),
    ("relu", "dx = dout * (cache > 0)", "dx = dout * cache * (cache > 0)", "dx", "not the gradient"),
    ("dropout", "< p) / p", "< p) / (1 - p)", "out", "share that is kept"),
    ("dropout", "< p) / p", "< p)", "out", "divide the mask"),
    ("dropout", "dx = dout * mask", "dx = dout * 0.6", "dx", "not the gradient"),
    ("dropout", "        out = x\n", "        out = x * p\n", "out (test)", "as it is"),
    ("conv_naive", "np.sum(patch * w[f]) + b[f]", "np.sum(patch * w[f, :, ::-1, ::-1]) + b[f]", "out", "turned"),
    ("conv_naive", "top, left = i * stride, j * stride", "top, left = i, j", "dw", "not the gradient"),
    ("max_pool_naive", "+= mask * dout", "= mask * dout", "dx", "not the gradient"),
    ("max_pool_naive", "+ pw].max(axis=(2, 3))", "+ pw].max(axis=(2, 3)).clip(0)", "out", "below 0"),
    ("batchnorm", "var = np.mean(xmu ** 2, axis=0)", "var = np.std(x, axis=0)", "out", "root is taken twice"),
    ("affine", ".dot(w) + b", ".dot(w) - b", "out", "b is subtracted"),
    ("softmax_loss", "y])) / N", "y]))", "out", "divide by N"),
    ("softmax_loss", "    dx /= N\n    return loss, dx\n\n\ndef svm", "    return loss, dx\n\n\ndef svm", "dx", "factor N"),
    ("softmax_loss", "    dx[np.arange(N), y] -= 1\n", "", "dx", "not the gradient"),
    ("svm_loss", "    margins[np.arange(N), y] = 0\n", "", "out", "own margin"),
    ("svm_loss", "dx[np.arange(N), y] -= positive", "pass", "dx", "not the gradient"),
    ("affine_bn_relu_dropout", "da, dgamma, dbeta = batchnorm_backward(dn, bn_cache)", "da, dgamma, dbeta = batchnorm_backward(dout, bn_cache)", "dx", "not the gradient"),
]  # fmt: skip


@pytest.mark.parametrize(("pair", "old", "new", "name", "phrase"), VALUES)
def test_a_wrong_value_is_disproved_and_named(pair, old, new, name, phrase):
    assert LAYERS.count(old) >= 1, old
    result = examined(pair, LAYERS.replace(old, new))
    verdict = result.verdicts[name]
    assert verdict.wrong, result
    assert phrase in verdict.message, verdict
    assert verdict.counterexample or pair == "dropout"
    assert verdict.line is not None
    if name == "dx" and "relu" not in pair:
        others = {v.name for v in result.verdicts.values() if v.wrong} - {"dx"}
        assert not others, result.verdicts


CONDUCT = [
    ("batchnorm", "get('eps', 1e-5)", "get('eps', 1e-8)", "default", "eps"),
    ("batchnorm", "get('momentum', 0.9)", "get('momentum', 0.1)", "default", "momentum"),
    ("batchnorm", "get('running_var', np.zeros(D, dtype=x.dtype))", "get('running_var', np.ones(D, dtype=x.dtype))", "default", "running_var"),
    ("layernorm", "ln_param.get('eps', 1e-5)", "ln_param.get('eps', 1e-3)", "default", "eps"),
    ("dropout", "np.random.seed(dropout_param['seed'])", "pass", "seed-ignored", "np.random.seed"),
    ("softmax_loss", "x.max(axis=1, keepdims=True)", "x.max()", "overflow", "each row"),
    ("dropout", "np.random.seed(dropout_param['seed'])", "np.random.seed(0)", "seed-ignored", "np.random.seed"),
    ("batchnorm", "return dx, dgamma, dbeta\n\n\ndef layer", "return dx, dbeta, dgamma\n\n\ndef layer", "gradient-order", "dgamma and dbeta"),
    ("batchnorm", "dbeta = np.sum(dout, axis=0)\n    dgamma", "dbeta = np.sum(dout, axis=0, keepdims=True)\n    dgamma", "wrong-shape", "dbeta has shape (1, 3), expected (3,). Leave out keepdims"),
    ("batchnorm", "dxhat = dout * gamma", "dout *= gamma; dxhat = dout", "dout-modified", "dout = dout *"),
    ("batchnorm", "    bn_param['running_mean'] = running_mean\n", "", "running-statistics", "running_mean"),
    ("batchnorm", "    bn_param['running_mean'] = running_mean\n    bn_param['running_var'] = running_var\n", "", "running-statistics", "running_mean and running_var"),
    ("batchnorm", "        out = gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta", "        pass", "test-mode", "None"),
    ("batchnorm", "    elif mode == 'test':\n", "    elif mode == 'test':\n        running_mean = x.mean(0)\n", "test-mode", "running_mean"),
    ("batchnorm", "cache = (xhat, gamma, std)", "cache = (xhat, std)", "exception", "another number"),
    ("batchnorm", "xmu = x - mu", "x -= mu; xmu = x", "input-modified", "x.copy()"),
    ("batchnorm", "    momentum = bn_param", "    bn_param['eps'] = 0.5; momentum = bn_param", "settings-modified", "'eps'"),
    ("batchnorm", "    xhat, gamma, std = cache\n", "    xhat, gamma, std = cache\n    std *= 2; std /= 1\n", "cache-modified", "second call"),
    ("batchnorm", "dx = (dxhat -", "dx = (dxhatt -", "exception", "NameError"),
    ("batchnorm", "mu = np.mean(x, axis=0)", "raise SystemExit(1)", "exception", "SystemExit"),
    ("batchnorm", "mu = np.mean(x, axis=0)", "mu = np.mean(x, axis=0) + np.random.default_rng().normal()", "not-deterministic", "same input"),
    ("batchnorm", "dbeta = np.sum(dout, axis=0)\n    dgamma", "dbeta = np.sum(dout, axis=0) + np.random.default_rng().normal()\n    dgamma", "not-deterministic", "same dout"),
    ("batchnorm", "    return dx, dgamma, dbeta\n\n\ndef layer", "    return dx, dgamma\n\n\ndef layer", "malformed", "2 gradients"),
    ("batchnorm", "    return dx, dgamma, dbeta\n\n\ndef layer", "    pass\n\n\ndef layer", "malformed", "nothing"),
    ("batchnorm", "    return out, cache\n\n\ndef batchnorm_b", "    return out\n\n\ndef batchnorm_b", "malformed", "the output and the cache"),
    ("batchnorm", "    xhat, gamma, std = cache\n", "    raise NotImplementedError\n", "not-written", "backward"),
    ("batchnorm", "std = np.sqrt(var + eps)", "std = np.sqrt(var - 100)", "not-finite", "NaN"),
    ("batchnorm", "dbeta = np.sum(dout, axis=0)\n    dgamma", "dbeta = np.sum(dout, axis=0).astype(int)\n    dgamma", "dtype", "int64"),
    ("batchnorm", "cache = (xhat, gamma, std)", "global LAST; LAST = std; cache = (xhat, gamma, 1)", "", ""),
    ("spatial_groupnorm", "dbeta = np.sum(dout, axis=(0, 2, 3), keepdims=True)", "dbeta = np.sum(dout, axis=(0, 2, 3))", "wrong-shape", "(6,), expected (1, 6, 1, 1). Keep the axes"),
    ("affine", ".dot(w.T).reshape(x.shape)", ".dot(w.T)", "wrong-shape", "(4, 6), expected (4, 2, 3)"),
    ("relu", "dx = dout * (cache > 0)", "dx = dout; dx[cache <= 0] = 0", "dout-modified", "dout"),
    ("relu", "out = np.maximum(0, x)", "out = x; out[out < 0] = 0", "input-modified", "forward modifies x"),
    ("conv_naive", "pad:pad + H, pad:pad + W", "pad:-pad, pad:-pad", "wrong-shape", "dx has shape"),
    ("dropout", "    if dropout_param['mode'] == 'train':\n        dx", "    if True:\n        dx", "test-mode", "mode 'test'"),
    ("dropout", "        dx = dout\n    return dx\n\n\ndef conv", "        dx = dout * dropout_param['p']\n    return dx\n\n\ndef conv", "test-mode", "dx is not dout"),
    ("softmax_loss", "shifted = x - x.max(axis=1, keepdims=True)", "shifted = x", "overflow", "largest score"),
    ("affine", "db = np.sum(dout, axis=0)", "db = np.sum(dout.squeeze(), axis=0)", "one-sample", "one sample"),
]  # fmt: skip


@pytest.mark.parametrize(("pair", "old", "new", "kind", "phrase"), [row for row in CONDUCT if row[3]])
def test_wrong_conduct_is_found_and_named(pair, old, new, kind, phrase):
    assert LAYERS.count(old) >= 1, old
    result = examined(pair, LAYERS.replace(old, new))
    found = [finding for finding in result.findings if finding.kind == kind]
    assert any(phrase in finding.message for finding in found), result
    assert all(finding.line is not None for finding in found)
    assert {finding.kind for finding in result.findings} == {kind}, result.findings


PLAIN = {
    "features x samples": (
        {"layer": "batch_norm", "axis": 1},
        """
        def forward(X, gamma, beta, eps=1e-8):
            mu = X.mean(axis=1, keepdims=True)
            std = np.sqrt(X.var(axis=1, keepdims=True) + eps)
            xhat = (X - mu) / std
            return gamma * xhat + beta, (xhat, gamma, std)

        def backward(dY, cache):
            xhat, gamma, std = cache
            m = dY.shape[1]
            g = dY * gamma
            dX = (g - g.sum(axis=1, keepdims=True) / m - xhat * np.sum(g * xhat, axis=1, keepdims=True) / m) / std
            return dX, (dY * xhat).sum(axis=1, keepdims=True), dY.sum(axis=1, keepdims=True)
        """,
    ),
    "torch": (
        {},
        """
        def batch_norm_forward(x, running_mean, running_var, weight, bias, training=False, momentum=0.1, eps=1e-5):
            if training:
                mean, var = x.mean(0), x.var(0)
                n = x.shape[0]
                running_mean *= 1 - momentum
                running_mean += momentum * mean
                running_var *= 1 - momentum
                running_var += momentum * var * n / (n - 1)
            else:
                mean, var = running_mean, running_var
            xhat = (x - mean) / np.sqrt(var + eps)
            return xhat * weight + bias, (xhat, weight, np.sqrt(var + eps))

        def batch_norm_backward(grad, cache):
            xhat, weight, std = cache
            g = grad * weight
            return (g - g.mean(0) - xhat * (g * xhat).mean(0)) / std, (grad * xhat).sum(0), grad.sum(0)
        """,
    ),
    "three gradients in another order": (
        {"declaration": {"x": "N D", "a": "D", "b": "D"}},
        """
        def forward(x, a, b):
            return a * x + b ** 3, (x, a, b)

        def backward(dout, cache):
            x, a, b = cache
            return dout * a, (dout * x).sum(0), (3 * b * b * dout).sum(0)
        """,
    ),
    "a loss with constant targets": (
        {"layer": "squared_error"},
        """
        def forward(predictions, targets):
            difference = predictions - targets
            return np.mean(difference ** 2), 2 * difference / difference.size
        """,
    ),
    "a gradient that is zero": (
        {"declaration": {"x": "N D", "b": "D"}},
        """
        def forward(x, b):
            y = x + b
            return y - y.mean(0), None

        def backward(dout, cache):
            dx = dout - dout.mean(0)
            return dx, dx.sum(0)
        """,
    ),
    "corners everywhere": (
        {},
        """
        def elu_forward(x):
            return np.where(x > 0, np.floor(x) + (x % 1), np.abs(x)), x

        def elu_backward(dout, x):
            return dout * np.where(x > 0, 1, -1)
        """,
    ),
    "an array of one axis": (
        {"declaration": {"w": "D", "labels": "N < D", "param": {"eps": "eps", "mode": "train"}}},
        """
        def forward(w, labels, *, param):
            assert param["mode"] == "train"
            return w[labels] / np.sqrt(1 + param["eps"]), (w.shape, labels, np.sqrt(1 + param["eps"]))

        def backward(dout, cache):
            shape, labels, root = cache
            dw = np.zeros(shape)
            np.add.at(dw, labels, dout / root)
            return dw
        """,
    ),
}


def plain(style, old="", new=""):
    options, text = PLAIN[style]
    text = textwrap.dedent(text)
    assert old in text
    made = module("import numpy as np\n" + text.replace(old, new))
    functions = [one for name, one in vars(made).items() if "ward" in name]
    name = functions[0].__name__.removesuffix("forward").strip("_") or "pair"
    return protocol(find(name, *[*functions, None][:2], **options))


@pytest.mark.parametrize("style", PLAIN)
def test_right_code_in_other_styles(style):
    result = plain(style)
    assert result.findings == []
    assert {v.word for v in result.verdicts.values()} == {Word.AGREES}, result.verdicts
    if style in ("features x samples", "torch", "a loss with constant targets"):
        assert "out" in result.verdicts
    if style == "torch":
        assert {"running_mean", "running_var", "out (test)"} <= set(result.verdicts)


@pytest.mark.parametrize(
    ("style", "old", "new", "name", "phrase"),
    [
        ("features x samples", "X.var(axis=1, keepdims=True)", "X.var()", "out", "axis=1 is missing"),
        ("features x samples", "dY.shape[1]", "dY.shape[0]", "dX", None),
        ("torch", " * n / (n - 1)", "", "running_var", "N instead of N - 1"),
        ("torch", "running_mean *= 1 - momentum\n", "running_mean = running_mean * (1 - momentum)\n", "running_mean", "not updated"),
        ("torch", "mean, var = running_mean, running_var", "mean, var = x.mean(0), x.var(0)", "out (test)", "statistics of the batch"),
        ("a loss with constant targets", "2 * difference", "difference", "dx", "factor 0.5"),
        ("a loss with constant targets", "np.mean(difference ** 2)", "np.mean(difference ** 2) / 2", "out", "halved"),
        ("a gradient that is zero", "dx.sum(0)", "dout.sum(0)", "db", "not the gradient"),
        ("an array of one axis", "np.add.at(dw, labels, dout / root)", "dw[labels] += dout / root", "dw", "not the gradient"),
        ("an array of one axis", "dout / root", "dout", "dw", "not the gradient"),
    ],
)  # fmt: skip
def test_wrong_code_in_other_styles(style, old, new, name, phrase):
    verdict = plain(style, old, new).verdicts["dx" if phrase is None else name]
    assert verdict.wrong
    assert phrase is None or phrase in verdict.message, verdict


def test_three_gradients_in_a_circle_are_recognized():
    style, old = "three gradients in another order", "(dout * x).sum(0), (3 * b * b * dout).sum(0)"
    result = plain(style, old, "(3 * b * b * dout).sum(0), (dout * x).sum(0)")
    assert [finding.kind for finding in result.findings] == ["gradient-order"]
    assert result.verdicts["da"].message.startswith("this is db")
    assert not result.verdicts["dx"].wrong


STATE = """
import numpy as np
BUFFER = np.zeros((4, 3))
LAST = []

def shared_forward(x):
    if x.shape != BUFFER.shape:
        return x * 2, None
    np.multiply(x, 2, out=BUFFER)
    return BUFFER, None

def shared_backward(dout, cache):
    return 2 * dout

def kept_forward(x):
    LAST[:] = [x]
    return x ** 2, None

def kept_backward(dout, cache):
    return 2 * dout * LAST[0]

def reused_forward(x):
    return x * 2, None

def reused_backward(dout, cache):
    if dout.shape != BUFFER.shape:
        return 2 * dout
    np.multiply(dout, 2, out=BUFFER)
    return BUFFER
"""


@pytest.mark.parametrize(
    ("name", "kind"), [("shared", "output-overwritten"), ("kept", "global-state"), ("reused", "output-overwritten")]
)
def test_what_outlives_a_call_is_found(name, kind):
    assert kind in {finding.kind for finding in examined(name, STATE).findings}


@pytest.mark.parametrize(
    "error", ["SystemExit(0)", "GeneratorExit()", "RecursionError()", "MemoryError()", "BaseException()"]
)
@pytest.mark.parametrize("place", ["forward", "backward"])
def test_nothing_is_raised_but_an_interrupt(error, place):
    text = "def f_forward(x):\n    return x, None\ndef f_backward(dout, cache):\n    return dout\n"
    head = f"def f_{place}({'x' if place == 'forward' else 'dout, cache'}):\n"
    result = examined("f", text.replace(head, f"{head}    raise {error}\n"))
    assert [finding.kind for finding in result.findings] == ["exception"]
    assert result.findings[0].line == line_of(text, head.strip()) + 1
    assert result.verdicts["dx"].word is Word.NOT_DECIDED
    with pytest.raises(KeyboardInterrupt):
        examined("f", text.replace(head, f"{head}    raise KeyboardInterrupt\n"))


def test_a_changed_numpy_is_no_judge(monkeypatch):
    text = "def f_forward(x):\n    return x, None\ndef f_backward(dout, cache):\n    return dout\n"
    monkeypatch.setattr(np, "mean", lambda x: 0)
    result = examined("f", text)
    assert [finding.kind for finding in result.findings] == ["numpy-changed"]
    assert result.verdicts["dx"].word is Word.NOT_DECIDED


def test_generators_and_error_handling_are_left_as_they_were():
    text = LAYERS.replace("    N, D = x.shape\n", "    N, D = x.shape; np.seterr(all='ignore')\n")
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    handling = np.geterr()
    examined("batchnorm", text)
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002
    assert np.geterr() == handling


@pytest.mark.parametrize("error", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize(("pair", "old"), [("batchnorm", "dx = ("), ("affine", "dx = "), ("softmax_loss", "dx /= ")])
def test_a_small_relative_error_is_seen(pair, old, error):
    assert examined(pair).verdicts["dx"].word is Word.AGREES
    assert examined(pair, LAYERS.replace(old, f"{old}{1 + error} * ")).verdicts["dx"].wrong


def test_eps_left_out_of_the_backward_is_seen():
    wrong = LAYERS.replace("cache = (xhat, gamma, std)", "cache = (xhat * std / np.sqrt(var), gamma, np.sqrt(var))")
    result = examined("batchnorm", wrong)
    assert result.verdicts["dx"].wrong
    assert result.verdicts["dgamma"].wrong
    assert not result.verdicts["dbeta"].wrong


def test_lines_are_those_of_the_file():
    old, new = "dgamma = np.sum(dout * xhat, axis=0)\n    dxhat", "dgamma = np.sum(dout, axis=0)\n    dxhat"
    text = LAYERS.replace(old, new)
    result = examined("batchnorm", text)
    assert result.verdicts["dgamma"].line == line_of(text, "dgamma = np.sum(dout, axis=0)")
    assert result.verdicts["out"].line == line_of(text, "return out, cache")


def test_the_same_seed_gives_the_same_report():
    assert examined("layernorm").verdicts == examined("layernorm").verdicts


def test_a_gradient_at_the_corner_of_relu_is_remarked():
    result = examined("relu", LAYERS.replace("(cache > 0)", "(cache >= 0)"))
    assert [remark.kind for remark in result.remarks] == ["corner"]
    assert result.findings == []


def test_a_mask_drawn_again_is_seen():
    old = "        dx = dout * mask"
    new = "        dx = dout * (np.random.rand(*dout.shape) < dropout_param['p']) / dropout_param['p']"
    assert examined("dropout", LAYERS.replace(old, new)).verdicts["dx"].wrong


def test_what_differences_cannot_follow_is_not_decided():
    text = """
        import numpy as np
        def fast_forward(x):
            return np.sin(1e9 * x), x
        def fast_backward(dout, x):
            return 1e9 * np.cos(1e9 * x) * dout
        def steep_forward(x):
            return np.tanh(1e3 * (x - 1.5)), x
        def steep_backward(dout, x):
            return 1e3 * (1 - np.tanh(1e3 * (x - 1.5)) ** 2) * dout
        """
    text = textwrap.dedent(text)
    assert examined("fast", text).verdicts["dx"].word is Word.NOT_DECIDED
    assert examined("steep", text).verdicts["dx"].word is Word.AGREES


def test_where_the_check_itself_fails_the_code_is_not_blamed():
    old = "    bn_param['running_mean'] = running_mean\n"
    result = examined("batchnorm", LAYERS.replace(old, old + "    bn_param['rows'] = (row for row in x)\n"))
    assert result.failed
    assert result.findings == []
    assert {verdict.word for verdict in result.verdicts.values()} == {Word.NOT_DECIDED}
    assert "the check itself failed (TypeError: cannot pickle" in result.verdicts["dx"].message
    assert not examined("batchnorm").failed


def test_rounding_of_a_gradient_is_no_fault_where_the_output_is_zero():
    text = "def f_forward(x):\n    return 0 * x, None\ndef f_backward(dout, cache):\n    return 0.3 * dout - 3 * (0.1 * dout)\n"
    assert examined("f", text).verdicts["dx"].word is Word.AGREES
