"""Mistakes in batch norm of x (N, D) over the batch: the course's signature, the backward pass in its nine steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from xhat.verify.faults.dictionary import Dictionary, Function, Rows, Seen, normal, put_gradients

FORWARD = """
def batchnorm_forward(x, gamma, beta, bn_param):
    mode = bn_param["mode"]
    eps = bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    N, D = x.shape
    running_mean = bn_param.get("running_mean", np.zeros(D, dtype=x.dtype))
    running_var = bn_param.get("running_var", np.zeros(D, dtype=x.dtype))
    out, cache = None, None
    if mode == "train":
        mu = np.mean(x, axis=0)
        xmu = x - mu
        var = np.mean(xmu**2, axis=0)
        std = np.sqrt(var + eps)
        ivar = 1.0 / std
        x_hat = xmu * ivar
        gamma_x = gamma * x_hat
        out = gamma_x + beta
        cache = (x_hat, gamma, xmu, ivar, std, var, eps)
        running_mean = momentum * running_mean + (1 - momentum) * mu
        running_var = momentum * running_var + (1 - momentum) * var
    elif mode == "test":
        x_hat = (x - running_mean) / np.sqrt(running_var + eps)
        out = gamma * x_hat + beta
    else:
        raise ValueError('Invalid forward batchnorm mode "%s"' % mode)
    bn_param["running_mean"] = running_mean
    bn_param["running_var"] = running_var
    return out, cache
"""

BACKWARD = """
def batchnorm_backward(dout, cache):
    x_hat, gamma, xmu, ivar, std, var, eps = cache
    N, D = dout.shape
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * x_hat, axis=0)
    dx_hat = dout * gamma
    divar = np.sum(dx_hat * xmu, axis=0)
    dxmu1 = dx_hat * ivar
    dstd = -divar / std**2
    dvar = 0.5 * dstd / std
    dsq = np.ones((N, D)) * dvar / N
    dxmu2 = 2 * xmu * dsq
    dxmu = dxmu1 + dxmu2
    dmu = -np.sum(dxmu, axis=0)
    dx = dxmu + dmu / N
    return dx, dgamma, dbeta
"""

FORWARD_ROWS: Rows = {
    "mean_over_all": (
        "The mean is taken over all entries instead of each column: give np.mean axis=0.",
        "np.mean(x, axis=0)",
        "np.mean(x)",
    ),
    "mean_over_features": (
        "The mean is taken over the features instead of the batch: use axis=0.",
        "np.mean(x, axis=0)",
        "np.mean(x, axis=1, keepdims=True)",
    ),
    "mean_not_divided": (
        "The mean is a sum: divide it by N.",
        "np.mean(x, axis=0)",
        "np.sum(x, axis=0)",
    ),
    "statistics_over_features": (
        "Mean and variance are taken over the features, as in layer norm: use axis=0.",
        "np.mean(x, axis=0)",
        "np.mean(x, axis=1, keepdims=True)",
        "np.mean(xmu**2, axis=0)",
        "np.mean(xmu**2, axis=1, keepdims=True)",
    ),
    "variance_over_all": (
        "The variance is taken over all entries: give the mean of the squares axis=0.",
        "np.mean(xmu**2, axis=0)",
        "np.mean(xmu**2)",
    ),
    "variance_without_axis": (
        "The variance is that of all entries around their one mean: give np.var axis=0.",
        "np.mean(xmu**2, axis=0)",
        "np.var(x)",
    ),
    "variance_summed_over_all": (
        "The squares are summed over all entries and divided by N: give np.sum axis=0.",
        "np.mean(xmu**2, axis=0)",
        "np.sum(xmu**2) / N",
    ),
    "variance_over_features": (
        "The variance is taken over the features instead of the batch: use axis=0.",
        "np.mean(xmu**2, axis=0)",
        "np.mean(xmu**2, axis=1, keepdims=True)",
    ),
    "variance_not_divided": (
        "The variance is the sum of the squares: divide it by N.",
        "np.mean(xmu**2, axis=0)",
        "np.sum(xmu**2, axis=0)",
    ),
    "variance_divided_by_features": (
        "The variance is divided by D instead of N: divide by the number of rows.",
        "np.mean(xmu**2, axis=0)",
        "np.sum(xmu**2, axis=0) / D",
    ),
    "variance_unbiased": (
        "The variance is divided by N - 1: batch norm divides by N (ddof=0).",
        "np.mean(xmu**2, axis=0)",
        "np.sum(xmu**2, axis=0) / (N - 1)",
    ),
    "variance_not_centred": (
        "The variance is the mean of x² because the mean was not taken off: square x - mu.",
        "np.mean(xmu**2, axis=0)",
        "np.mean(x**2, axis=0)",
    ),
    "variance_square_missing": (
        "The variance is the mean of |x - mu|: square the differences.",
        "np.mean(xmu**2, axis=0)",
        "np.mean(np.abs(xmu), axis=0)",
    ),
    "variance_is_std": (
        "np.std was used where the variance was meant, so that the root is taken twice: use np.var.",
        "np.mean(xmu**2, axis=0)",
        "np.std(x, axis=0)",
    ),
    "eps_in_variance": (
        "eps is added to the variance itself and then again, and so enters running_var: add it once, under the root.",
        "np.mean(xmu**2, axis=0)",
        "np.mean(xmu**2, axis=0) + eps",
    ),
    "eps_outside": (
        "eps is added outside the square root: write np.sqrt(var + eps).",
        "np.sqrt(var + eps)",
        "(np.sqrt(var) + eps)",
    ),
    "eps_missing": (
        "eps is not used in the standard deviation: write np.sqrt(var + eps).",
        "np.sqrt(var + eps)",
        "np.sqrt(var)",
    ),
    "eps_squared": (
        "eps is squared under the root: add eps itself.",
        "np.sqrt(var + eps)",
        "np.sqrt(var + eps**2)",
    ),
    "root_missing": (
        "The square root is missing, so that x - mu is divided by the variance: write np.sqrt(var + eps).",
        "np.sqrt(var + eps)",
        "var + eps",
    ),
    "eps_ignored": (
        'eps is a fixed number: read it with bn_param.get("eps", 1e-5).',
        'bn_param.get("eps", 1e-5)',
        "1e-5",
    ),
    "eps_default": (
        "The default of eps is not 1e-5: the course's is 1e-5.",
        'bn_param.get("eps", 1e-5)',
        'bn_param.get("eps", 1e-8)',
    ),
    "multiplied_by_std": (
        "x - mu is multiplied by the standard deviation: divide by it.",
        "xmu * ivar",
        "xmu * std",
    ),
    "std_subtracted": (
        "The standard deviation is subtracted: divide by it.",
        "xmu * ivar",
        "xmu - std",
    ),
    "not_centred": (
        "x is divided but the mean was not taken off: use x - mu.",
        "xmu * ivar",
        "x * ivar",
    ),
    "not_scaled": (
        "x - mu is not divided by the standard deviation.",
        "xmu * ivar",
        "xmu",
    ),
    "gamma_missing": (
        "gamma is not applied: multiply x_hat by it.",
        "gamma * x_hat\n        out = gamma_x",
        "gamma * x_hat\n        out = x_hat",
    ),
    "gamma_added": (
        "gamma is added: multiply x_hat by it.",
        "gamma_x = gamma * x_hat",
        "gamma_x = gamma + x_hat",
    ),
    "gamma_on_x": (
        "gamma multiplies x instead of x_hat, so that nothing is normalized.",
        "gamma_x = gamma * x_hat",
        "gamma_x = gamma * x",
    ),
    "gamma_on_centred": (
        "gamma multiplies x - mu instead of x_hat: divide by the standard deviation first.",
        "gamma_x = gamma * x_hat",
        "gamma_x = gamma * xmu",
    ),
    "beta_missing": (
        "beta is not added.",
        "out = gamma_x + beta",
        "out = gamma_x",
    ),
    "beta_subtracted": (
        "beta is subtracted: add it.",
        "out = gamma_x + beta",
        "out = gamma_x - beta",
    ),
    "gamma_on_beta": (
        "beta is multiplied by gamma: add beta after gamma * x_hat.",
        "gamma_x = gamma * x_hat",
        "gamma_x = gamma * (x_hat + beta) - beta",
    ),
    "gamma_beta_exchanged": (
        "gamma and beta are exchanged: out = gamma * x_hat + beta.",
        "gamma_x = gamma * x_hat\n        out = gamma_x + beta",
        "gamma_x = beta * x_hat\n        out = gamma_x + gamma",
    ),
    "x_modified": (
        "x is changed in place: write x - mu, which makes a new array, instead of x -= mu.",
        "xmu = x - mu",
        "x -= mu\n        xmu = x",
    ),
    "momentum_exchanged": (
        "The running averages weight the batch by momentum: momentum weights the old value.",
        "momentum * running_mean + (1 - momentum) * mu",
        "(1 - momentum) * running_mean + momentum * mu",
        "momentum * running_var + (1 - momentum) * var",
        "(1 - momentum) * running_var + momentum * var",
    ),
    "momentum_exchanged_mean": (
        "running_mean weights the batch by momentum: momentum weights the old value.",
        "momentum * running_mean + (1 - momentum) * mu",
        "(1 - momentum) * running_mean + momentum * mu",
    ),
    "momentum_ignored": (
        'momentum is a fixed number: read it with bn_param.get("momentum", 0.9).',
        'bn_param.get("momentum", 0.9)',
        "0.9",
    ),
    "momentum_default": (
        "The default of momentum is not 0.9: the course's is 0.9, and it weights the old value.",
        'bn_param.get("momentum", 0.9)',
        'bn_param.get("momentum", 0.1)',
    ),
    "running_not_stored": (
        "The running statistics are not written back to bn_param.",
        '    bn_param["running_mean"] = running_mean\n    bn_param["running_var"] = running_var\n',
        "",
    ),
    "running_var_not_stored": (
        "running_var is not written back to bn_param.",
        '    bn_param["running_var"] = running_var\n',
        "",
    ),
    "running_overwritten": (
        "The running statistics are the last batch's: average them with the old ones.",
        "momentum * running_mean + (1 - momentum) * mu",
        "mu",
        "momentum * running_var + (1 - momentum) * var",
        "var",
    ),
    "running_weight_missing": (
        "The batch enters the running averages with weight 1: multiply it by (1 - momentum).",
        "momentum * running_mean + (1 - momentum) * mu",
        "momentum * running_mean + mu",
        "momentum * running_var + (1 - momentum) * var",
        "momentum * running_var + var",
    ),
    "running_var_unbiased": (
        "running_var uses N - 1, another framework's convention: the course stores the variance divided by N.",
        "(1 - momentum) * var",
        "(1 - momentum) * var * N / (N - 1)",
    ),
    "running_var_is_std": (
        "running_var stores the standard deviation: store the variance.",
        "(1 - momentum) * var",
        "(1 - momentum) * std",
    ),
    "running_var_with_eps": (
        "running_var includes eps: store the variance alone.",
        "(1 - momentum) * var",
        "(1 - momentum) * (var + eps)",
    ),
    "running_var_from_ones": (
        "running_var starts at 1: the course starts it at 0.",
        'bn_param.get("running_var", np.zeros(D, dtype=x.dtype))',
        'bn_param.get("running_var", np.ones(D, dtype=x.dtype))',
    ),
    "test_uses_batch": (
        "Test mode normalizes with the statistics of the batch: use the running ones.",
        "(x - running_mean) / np.sqrt(running_var + eps)",
        "(x - np.mean(x, axis=0)) / np.sqrt(np.var(x, axis=0) + eps)",
    ),
    "test_updates": (
        "Test mode updates the running statistics: leave them as they are.",
        "(x - running_mean) / np.sqrt(running_var + eps)",
        "(x - running_mean) / np.sqrt(running_var + eps)\n"
        "        running_mean = momentum * running_mean + (1 - momentum) * np.mean(x, axis=0)\n"
        "        running_var = momentum * running_var + (1 - momentum) * np.var(x, axis=0)",
    ),
    "test_not_scaled": (
        "Test mode does not apply gamma and beta.",
        "out = gamma * x_hat + beta",
        "out = x_hat",
    ),
    "test_returns_none": (
        "Test mode returns None: assign out in that branch.",
        "out = gamma * x_hat + beta",
        "pass",
    ),
    "test_eps_missing": (
        "Test mode does not use eps: write np.sqrt(running_var + eps).",
        "np.sqrt(running_var + eps)",
        "np.sqrt(running_var)",
    ),
    "test_eps_outside": (
        "Test mode adds eps outside the square root: write np.sqrt(running_var + eps).",
        "np.sqrt(running_var + eps)",
        "(np.sqrt(running_var) + eps)",
    ),
    "test_root_missing": (
        "Test mode divides by the running variance: take its square root.",
        "np.sqrt(running_var + eps)",
        "(running_var + eps)",
    ),
    "test_not_centred": (
        "Test mode does not take off running_mean.",
        "(x - running_mean)",
        "x",
    ),
}

BACKWARD_ROWS: Rows = {
    "dbeta_mean": (
        "dbeta is averaged over the batch: sum it.",
        "np.sum(dout, axis=0)",
        "np.mean(dout, axis=0)",
    ),
    "dbeta_with_gamma": (
        "dbeta has a factor gamma too many: sum dout alone.",
        "np.sum(dout, axis=0)",
        "np.sum(dout * gamma, axis=0)",
    ),
    "dbeta_not_summed": (
        "dbeta has a row for every sample: sum dout over axis 0.",
        "np.sum(dout, axis=0)",
        "dout",
    ),
    "dbeta_over_features": (
        "dbeta is summed over the features: use axis=0.",
        "np.sum(dout, axis=0)",
        "np.sum(dout, axis=1)",
    ),
    "dbeta_over_all": (
        "dbeta is one number for all features: give np.sum axis=0.",
        "np.sum(dout, axis=0)",
        "np.sum(dout)",
    ),
    "dbeta_keepdims": (
        "dbeta has shape (1, D): leave out keepdims, beta has shape (D,).",
        "np.sum(dout, axis=0)",
        "np.sum(dout, axis=0, keepdims=True)",
    ),
    "dgamma_with_gamma": (
        "dgamma has a factor gamma too many: sum dout * x_hat.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * gamma * x_hat, axis=0)",
    ),
    "dgamma_from_centred": (
        "dgamma uses x - mu: use x_hat, which is divided by the standard deviation.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * xmu, axis=0)",
    ),
    "dgamma_without_x_hat": (
        "dgamma ignores x_hat and equals dbeta: sum dout * x_hat.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout, axis=0)",
    ),
    "dgamma_mean": (
        "dgamma is averaged over the batch: sum it.",
        "np.sum(dout * x_hat, axis=0)",
        "np.mean(dout * x_hat, axis=0)",
    ),
    "dgamma_not_summed": (
        "dgamma has a row for every sample: sum dout * x_hat over axis 0.",
        "np.sum(dout * x_hat, axis=0)",
        "dout * x_hat",
    ),
    "dgamma_over_features": (
        "dgamma is summed over the features: use axis=0.",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * x_hat, axis=1)",
    ),
    "dgamma_keepdims": (
        "dgamma has shape (1, D): leave out keepdims, gamma has shape (D,).",
        "np.sum(dout * x_hat, axis=0)",
        "np.sum(dout * x_hat, axis=0, keepdims=True)",
    ),
    "exchanged": (
        "dgamma and dbeta are returned in exchanged order: return dx, dgamma, dbeta.",
        "return dx, dgamma, dbeta",
        "return dx, dbeta, dgamma",
    ),
    "dout_modified": (
        "dout is changed in place: write dout * gamma, which makes a new array.",
        "dx_hat = dout * gamma",
        "dout *= gamma\n    dx_hat = dout",
    ),
    "gamma_missing": (
        "dx lacks the factor gamma: dx_hat = dout * gamma.",
        "dx_hat = dout * gamma",
        "dx_hat = dout",
    ),
    "gamma_divided": (
        "dout is divided by gamma: multiply, as the forward pass does.",
        "dx_hat = dout * gamma",
        "dx_hat = dout / gamma",
    ),
    "gamma_squared": (
        "dx has a factor gamma too many: multiply dout by gamma once.",
        "dx_hat = dout * gamma",
        "dx_hat = dout * gamma**2",
    ),
    "statistics_constant": (
        "Mean and variance are treated as constants: both depend on x, so two terms are missing in dx.",
        "dx = dxmu + dmu / N",
        "dx = dxmu1",
    ),
    "mean_constant": (
        "The mean is treated as constant: the term dmu / N is missing in dx.",
        "dx = dxmu + dmu / N",
        "dx = dxmu",
    ),
    "variance_constant": (
        "The variance is treated as constant: the term with x_hat * mean(dx_hat * x_hat) is missing in dx.",
        "dxmu = dxmu1 + dxmu2",
        "dxmu = dxmu1",
    ),
    "first_path_missing": (
        "The direct path through x - mu is missing: dx_hat * ivar must be part of dx.",
        "dxmu = dxmu1 + dxmu2",
        "dxmu = dxmu2",
    ),
    "variance_sign": (
        "The term of the variance has the wrong sign: both paths into x - mu are added.",
        "dxmu = dxmu1 + dxmu2",
        "dxmu = dxmu1 - dxmu2",
    ),
    "mean_without_second_path": (
        "The part of dmu that comes through the variance is dropped; it is always zero, so nothing changes.",
        "-np.sum(dxmu, axis=0)",
        "-np.sum(dxmu1, axis=0)",
    ),
    "mean_from_second_path": (
        "dmu is taken from the variance's path alone, where it is zero: sum the direct path too.",
        "-np.sum(dxmu, axis=0)",
        "-np.sum(dxmu2, axis=0)",
    ),
    "mean_sign": (
        "dmu has the wrong sign: the mean is subtracted, so its gradient is minus the sum.",
        "-np.sum(dxmu, axis=0)",
        "np.sum(dxmu, axis=0)",
    ),
    "mean_over_all": (
        "dmu is summed over all entries: give np.sum axis=0.",
        "-np.sum(dxmu, axis=0)",
        "-np.sum(dxmu)",
    ),
    "mean_over_features": (
        "dmu is summed over the features: use axis=0.",
        "-np.sum(dxmu, axis=0)",
        "-np.sum(dxmu, axis=1, keepdims=True)",
    ),
    "mean_not_scaled": (
        "dmu lacks the factor 1/std: sum dx_hat * ivar.",
        "-np.sum(dxmu, axis=0)",
        "-np.sum(dx_hat, axis=0)",
    ),
    "mean_without_gamma": (
        "dmu lacks the factor gamma: sum dout * gamma * ivar.",
        "-np.sum(dxmu, axis=0)",
        "-np.sum(dout * ivar, axis=0)",
    ),
    "mean_not_divided": (
        "dmu is not divided by N: each x enters the mean with weight 1/N.",
        "dx = dxmu + dmu / N",
        "dx = dxmu + dmu",
    ),
    "mean_divided_by_features": (
        "dmu is divided by D: each x enters the mean with weight 1/N.",
        "dx = dxmu + dmu / N",
        "dx = dxmu + dmu / D",
    ),
    "mean_divided_by_n_minus_1": (
        "dmu is divided by N - 1: each x enters the mean with weight 1/N.",
        "dx = dxmu + dmu / N",
        "dx = dxmu + dmu / (N - 1)",
    ),
    "divided_by_variance": (
        "dx is divided by the variance: divide by the standard deviation once.",
        "dx = dxmu + dmu / N",
        "dx = (dxmu + dmu / N) / std",
    ),
    "not_divided_by_std": (
        "dx is not divided by the standard deviation.",
        "dx = dxmu + dmu / N",
        "dx = (dxmu + dmu / N) * std",
    ),
    "averaged": (
        "dx is divided by N: dout already holds the loss's 1/N.",
        "dx = dxmu + dmu / N",
        "dx = (dxmu + dmu / N) / N",
    ),
    "half_missing": (
        "The 1/2 of the square root's derivative is missing: dvar = 0.5 * dstd / std.",
        "0.5 * dstd / std",
        "dstd / std",
    ),
    "root_power": (
        "The derivative of the square root is 0.5 / std, but here std multiplies: divide by it.",
        "0.5 * dstd / std",
        "0.5 * dstd * std",
    ),
    "root_missing": (
        "The derivative of the square root is missing: dvar = 0.5 * dstd / std.",
        "0.5 * dstd / std",
        "dstd",
    ),
    "eps_missing": (
        "eps is dropped in the backward pass: divide by the std of the forward pass, with eps.",
        "0.5 * dstd / std",
        "0.5 * dstd / np.sqrt(var)",
    ),
    "eps_missing_in_square": (
        "eps is dropped in the backward pass: std**2 is var + eps, not var.",
        "-divar / std**2",
        "-divar / var",
    ),
    "eps_missing_everywhere": (
        "eps is dropped in the whole variance term: the forward pass divides by np.sqrt(var + eps).",
        "-divar / std**2",
        "-divar / var",
        "0.5 * dstd / std",
        "0.5 * dstd / np.sqrt(var)",
    ),
    "eps_twice": (
        "eps is counted twice: std already holds it.",
        "0.5 * dstd / std",
        "0.5 * dstd / np.sqrt(std**2 + eps)",
    ),
    "eps_twice_in_square": (
        "eps is counted twice: std**2 is var + eps already.",
        "-divar / std**2",
        "-divar / (std**2 + eps)",
    ),
    "reciprocal_sign": (
        "The derivative of 1/std has a minus sign: dstd = -divar / std**2.",
        "-divar / std**2",
        "divar / std**2",
    ),
    "reciprocal_power": (
        "The derivative of 1/std is -1/std**2: the square is missing.",
        "-divar / std**2",
        "-divar / std",
    ),
    "reciprocal_missing": (
        "The derivative of 1/std is missing: dstd = -divar / std**2.",
        "-divar / std**2",
        "-divar",
    ),
    "divar_over_all": (
        "divar is summed over all entries: give np.sum axis=0.",
        "np.sum(dx_hat * xmu, axis=0)",
        "np.sum(dx_hat * xmu)",
    ),
    "divar_over_features": (
        "divar is summed over the features: use axis=0.",
        "np.sum(dx_hat * xmu, axis=0)",
        "np.sum(dx_hat * xmu, axis=1, keepdims=True)",
    ),
    "divar_not_summed": (
        "divar is not summed: ivar serves the whole column, so sum over axis 0.",
        "np.sum(dx_hat * xmu, axis=0)",
        "dx_hat * xmu",
    ),
    "divar_mean": (
        "divar is averaged, and the mean over N comes later: sum it.",
        "np.sum(dx_hat * xmu, axis=0)",
        "np.mean(dx_hat * xmu, axis=0)",
    ),
    "divar_from_x_hat": (
        "divar uses x_hat: ivar multiplies x - mu in the forward pass, so use xmu.",
        "np.sum(dx_hat * xmu, axis=0)",
        "np.sum(dx_hat * x_hat, axis=0)",
    ),
    "divar_without_gamma": (
        "The variance term lacks gamma: use dx_hat = dout * gamma.",
        "np.sum(dx_hat * xmu, axis=0)",
        "np.sum(dout * xmu, axis=0)",
    ),
    "divar_without_x": (
        "divar lacks x - mu: the derivative of xmu * ivar with respect to ivar is xmu.",
        "np.sum(dx_hat * xmu, axis=0)",
        "np.sum(dx_hat, axis=0)",
    ),
    "variance_n_minus_1": (
        "The variance term is divided by N - 1 while the forward pass divides by N.",
        "np.ones((N, D)) * dvar / N",
        "np.ones((N, D)) * dvar / (N - 1)",
    ),
    "variance_not_divided": (
        "The variance term is not divided by N: each square enters the variance with weight 1/N.",
        "np.ones((N, D)) * dvar / N",
        "np.ones((N, D)) * dvar",
    ),
    "variance_divided_by_features": (
        "The variance term is divided by D: each square enters the variance with weight 1/N.",
        "np.ones((N, D)) * dvar / N",
        "np.ones((N, D)) * dvar / D",
    ),
    "square_factor_missing": (
        "The 2 of the square's derivative is missing: the derivative of xmu**2 is 2 * xmu.",
        "2 * xmu * dsq",
        "xmu * dsq",
    ),
    "square_of_x": (
        "The derivative of the square uses x_hat: the forward pass squares x - mu.",
        "2 * xmu * dsq",
        "2 * x_hat * dsq",
    ),
    "square_without_x": (
        "The derivative of xmu**2 lacks xmu: it is 2 * xmu.",
        "2 * xmu * dsq",
        "2 * dsq",
    ),
    "multiplied_by_std": (
        "The direct path is multiplied by std: multiply by ivar = 1 / std.",
        "dx_hat * ivar",
        "dx_hat * std",
    ),
    "direct_not_scaled": (
        "The direct path lacks 1/std: dxmu1 = dx_hat * ivar.",
        "dx_hat * ivar",
        "dx_hat",
    ),
    "direct_without_gamma": (
        "The direct path lacks gamma: use dx_hat = dout * gamma.",
        "dx_hat * ivar",
        "dout * ivar",
    ),
}

QUANTITIES = {
    "the sum over the batch": "np.sum(x, axis=0)",
    "the mean over the batch": "mu",
    "x - mean": "xmu",
    "(x - mean)²": "xmu**2",
    "the sum over the batch of (x - mean)²": "np.sum(xmu**2, axis=0)",
    "the variance over the batch": "var",
    "the mean of x²": "np.mean(x**2, axis=0)",
    "mean²": "mu**2",
    "var + eps": "var + eps",
    "the standard deviation, with eps": "std",
    "1 / std": "ivar",
    "1 / (var + eps)": "ivar**2",
    "1 / std³": "ivar**3",
    "gamma / std": "gamma * ivar",
    "gamma / (N * std)": "gamma * ivar / N",
    "1 / (N * std)": "ivar / N",
    "1 / N": "1 / N",
    "1 - momentum": "1 - momentum",
    "gamma * x_hat": "gamma * x_hat",
    "dout * x_hat": "dout * x_hat",
    "dout * (x - mean)": "dout * xmu",
    "dx_hat * (x - mean)": "dx_hat * xmu",
    "dx_hat * x_hat": "dx_hat * x_hat",
    "the sum over the batch of dout * (x - mean)": "np.sum(dout * xmu, axis=0)",
    "the mean over the batch of dout": "np.mean(dout, axis=0)",
    "the mean over the batch of dout * x_hat": "np.mean(dout * x_hat, axis=0)",
    "the sum over the batch of dx_hat": "np.sum(dx_hat, axis=0)",
    "the mean over the batch of dx_hat": "np.mean(dx_hat, axis=0)",
    "the sum over the batch of dx_hat * x_hat": "np.sum(dx_hat * x_hat, axis=0)",
    "the mean over the batch of dx_hat * x_hat": "np.mean(dx_hat * x_hat, axis=0)",
    "x_hat * mean(dx_hat * x_hat)": "x_hat * np.mean(dx_hat * x_hat, axis=0)",
    "x_hat * sum(dx_hat * x_hat)": "x_hat * np.sum(dx_hat * x_hat, axis=0)",
    "x_hat * sum(dout * x_hat)": "x_hat * dgamma",
    "N * dout": "N * dout",
    "N * dx_hat": "N * dx_hat",
    "dx_hat - mean(dx_hat)": "dx_hat - np.mean(dx_hat, axis=0)",
    "dx * std": "dx * std",
    "N * std * dx": "N * dx * std",
    "std * dx / gamma": "dx * std / gamma",
    "dvar / N": "dvar / N",
    "2 * (x - mean) / N": "2 * xmu / N",
    "dmu / N": "dmu / N",
    "the direct part of dmu": "-np.sum(dxmu1, axis=0)",
    "the sum of (x - mean), which is 0": "np.sum(xmu, axis=0)",
    "half of the derivative of the root": "0.5 * ivar",
    "dout * gamma": "dx_hat",
    "the gradient of 1 / std": "divar",
    "the gradient of the standard deviation": "dstd",
    "the gradient of the variance": "dvar",
    "the gradient of the mean": "dmu",
}

X, GAMMA, BETA = 2 * normal(1, 5, 3) + 1.5, np.array([1.3, -0.7, 0.6]), normal(2, 3)
DOUT, X_TEST = normal(3, 5, 3), normal(4, 4, 3)
RUNNING_MEAN, RUNNING_VAR = normal(5, 3), np.array([0.8, 1.7, 0.5])


def after_forward(forward: Function, seen: Seen) -> Any:
    """Train once, predict, and train from nothing with the defaults."""

    def state(mode: str) -> dict[str, Any]:
        statistics = {"running_mean": RUNNING_MEAN.copy(), "running_var": RUNNING_VAR.copy()}
        return {"mode": mode, "eps": 0.37, "momentum": 0.83, **statistics}

    x, train, test = X.copy(), state("train"), state("test")
    first: dict[str, Any] = {"mode": "train"}
    seen["out"], cache = forward(x, GAMMA.copy(), BETA.copy(), train)
    seen["x after the call"] = x
    for name in ("running_mean", "running_var"):
        seen[name] = train[name]
    seen["out (test)"] = forward(X_TEST.copy(), GAMMA.copy(), BETA.copy(), test)[0]
    for name in ("running_mean", "running_var"):
        seen[f"{name} after test mode"] = test[name]
    small = 0.003 * X  # so that an eps of 1e-5 counts
    seen["out with defaults"] = forward(small.copy(), GAMMA.copy(), BETA.copy(), first)[0]
    for name in ("running_mean", "running_var"):
        seen[f"{name} with defaults"] = first.get(name)
    return cache


def after_backward(backward: Function, cache: Any, seen: Seen) -> None:
    """Go back once."""
    dout = DOUT.copy()
    put_gradients(backward(dout, cache), ("dx", "dgamma", "dbeta"), seen)
    seen["dout after the call"] = dout


BATCH_NORM = Dictionary(
    "batch_norm",
    FORWARD,
    BACKWARD,
    after_forward,
    after_backward,
    FORWARD_ROWS,
    BACKWARD_ROWS,
    harmless=frozenset({"mean_without_second_path"}),
    quantities=QUANTITIES,
)
