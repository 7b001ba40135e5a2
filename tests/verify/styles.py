"""Right code as different people write it, for the layers of the dictionaries; and its one-line mutants."""

import ast
import copy

from xhat.verify.faults.dictionary import compiled

BATCH_NORM_FORWARDS = {
    "short": """
import numpy as np
def forward(x, gamma, beta, bn_param):
    eps = bn_param.get("eps", 1e-5)
    mom = bn_param.get("momentum", 0.9)
    rm = bn_param.get("running_mean", np.zeros(x.shape[1]))
    rv = bn_param.get("running_var", np.zeros(x.shape[1]))
    if bn_param["mode"] == "train":
        m = x.mean(axis=0)
        v = x.var(axis=0)
        s = np.sqrt(v + eps)
        z = (x - m) / s
        out = gamma * z + beta
        rm = mom * rm + (1 - mom) * m
        rv = mom * rv + (1 - mom) * v
        cache = (z, gamma, x - m, 1 / s, s, v, eps)
    else:
        out = gamma * (x - rm) / np.sqrt(rv + eps) + beta
        cache = None
    bn_param["running_mean"] = rm
    bn_param["running_var"] = rv
    return out, cache
""",
    "sums": """
import numpy as np
def forward(x, gamma, beta, bn_param):
    eps = bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    N, D = x.shape
    running_mean = bn_param.get("running_mean", np.zeros(D))
    running_var = bn_param.get("running_var", np.zeros(D))
    if bn_param["mode"] == "train":
        total = np.sum(x, axis=0)
        sample_mean = total / N
        centered = x - sample_mean
        sq = centered * centered
        total_sq = np.sum(sq, axis=0)
        sample_var = total_sq / float(N)
        shifted_var = sample_var + eps
        inv_std = shifted_var ** -0.5
        scaled = centered * inv_std
        out = scaled * gamma
        out = out + beta
        running_mean *= momentum
        running_mean += (1.0 - momentum) * sample_mean
        running_var = momentum * running_var + (1.0 - momentum) * sample_var
        cache = (scaled, gamma, centered, inv_std, np.sqrt(shifted_var), sample_var, eps)
    else:
        k = gamma / np.sqrt(running_var + eps)
        out = k * x + (beta - k * running_mean)
        cache = None
    bn_param["running_mean"] = running_mean
    bn_param["running_var"] = running_var
    return out, cache
""",
}

BATCH_NORM_BACKWARDS = {
    "closed form": """
import numpy as np
def backward(dout, cache):
    x_hat, gamma, xmu, ivar, std, var, eps = cache
    m = dout.shape[0]
    db = dout.sum(axis=0)
    dg = (dout * x_hat).sum(axis=0)
    dx = (1.0 / m) * gamma * ivar * (m * dout - db - x_hat * dg)
    return dx, dg, db
""",
    "paper": """
import numpy as np
def backward(dout, cache):
    xn, g, c, inv, std, var, eps = cache
    N = dout.shape[0]
    dxn = dout * g
    dvar = np.sum(dxn * c, axis=0) * -0.5 * inv**3
    dmean = np.sum(dxn * -inv, axis=0) + dvar * np.mean(-2.0 * c, axis=0)
    dx = dxn * inv + dvar * 2.0 * c / N + dmean / N
    dgamma = np.sum(dout * xn, axis=0)
    dbeta = np.sum(dout, axis=0)
    return dx, dgamma, dbeta
""",
    "odd names": """
import numpy as np
def backward(dout, cache):
    a, b, c, d, e, f, g = cache
    n = len(dout)
    t = dout * b
    u = t.mean(axis=0)
    v = (t * a).mean(axis=0)
    w = t - u
    w = w - a * v
    r = w * d
    p = np.einsum("ij,ij->j", dout, a)
    q = np.ones(n).dot(dout)
    return r, p, q
""",
    "in place": """
import numpy as np
def backward(dout, cache):
    x_hat, gamma, xmu, ivar, std, var, eps = cache
    N, D = dout.shape
    dbeta = dout.sum(0)
    dgamma = (dout * x_hat).sum(0)
    dx = dout * gamma
    dx *= N
    dx -= gamma * dbeta
    dx -= x_hat * (gamma * dgamma)
    dx /= N * std
    return dx, dgamma, dbeta
""",
    "matrix": """
import numpy as np
def backward(dout, cache):
    x_hat, gamma, xmu, ivar, std, var, eps = cache
    N, D = dout.shape
    dxhat = gamma * dout
    H = np.eye(N) - np.ones((N, N)) / N
    left = np.dot(H, dxhat)
    proj = x_hat * np.sum(dxhat * x_hat, axis=0) / N
    dx = ivar * (left - proj)
    return dx, np.sum(x_hat * dout, axis=0), np.sum(dout, axis=0)
""",
}

LAYER_NORM_FORWARDS = {
    "transposed": """
import numpy as np
def forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    xt = x.T
    mean = xt.mean(axis=0)
    var = xt.var(axis=0)
    xc = xt - mean
    sigma = np.sqrt(var + eps)
    z = (xc / sigma).T
    out = z * gamma + beta
    return out, (z, gamma, sigma[:, None], var[:, None], eps)
""",
}

LAYER_NORM_BACKWARDS = {
    "closed form": """
import numpy as np
def backward(dout, cache):
    xhat, gamma, std, var, eps = cache
    n, d = dout.shape
    dbeta = dout.sum(axis=0)
    dgamma = (xhat * dout).sum(axis=0)
    g = dout * gamma
    s1 = g.sum(axis=1, keepdims=True)
    s2 = (g * xhat).sum(axis=1, keepdims=True)
    dx = (d * g - s1 - xhat * s2) / (d * std)
    return dx, dgamma, dbeta
""",
    "paths": """
import numpy as np
def backward(dout, cache):
    x_hat, gamma, std, var, eps = cache
    N, D = dout.shape
    dx_hat = dout * gamma
    xmu = x_hat * std
    dstd = -np.sum(dx_hat * xmu, axis=1, keepdims=True) / std**2
    dvar = 0.5 * dstd / std
    dxmu = dx_hat / std + 2 * xmu * dvar / D
    dmu = -np.sum(dxmu, axis=1, keepdims=True)
    dx = dxmu + dmu / D
    return dx, (dout * x_hat).sum(0), dout.sum(0)
""",
}


def read(text, name):
    return compiled(text, f"<{name}>")


def mutants(text):
    """Every text with one operator exchanged, one operand or one axis dropped, one number changed; and the line."""
    tree = ast.parse(text)
    for number, node in enumerate(ast.walk(tree)):
        for change in _changes(node):
            other = copy.deepcopy(tree)
            target = next(one for index, one in enumerate(ast.walk(other)) if index == number)
            change(target)
            changed = ast.unparse(ast.fix_missing_locations(other))
            plain = ast.unparse(tree)
            pairs = zip(plain.splitlines(), changed.splitlines(), strict=True)
            lines = [line for line, (one, two) in enumerate(pairs, 1) if one != two]
            if lines:
                yield changed, lines[0]


def _changes(node):
    if isinstance(node, ast.BinOp):
        others = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
        other = others.get(type(node.op))
        if other:
            yield lambda n: setattr(n, "op", other())
        yield lambda n: _become(n, n.left)
        yield lambda n: _become(n, n.right)
    if isinstance(node, ast.AugAssign):
        others = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
        yield lambda n: setattr(n, "op", others[type(n.op)]())
    if isinstance(node, ast.Call) and node.keywords and node.keywords[0].arg == "axis":
        yield lambda n: n.keywords.pop(0)
        if isinstance(node.keywords[0].value, ast.Constant):
            yield lambda n: setattr(n.keywords[0].value, "value", 1 - n.keywords[0].value.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value not in (True, False):
        yield lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: _become(n, n.operand)


def _become(node, other):
    node.__class__ = other.__class__
    node.__dict__ = dict(other.__dict__)
