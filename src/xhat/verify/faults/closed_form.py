"""What layer, group and instance norm share: statistics of each row of numbers, and dx in closed form.

AXIS stands for the axes of such a row, which are kept: "axis=1, keepdims=True". M stands for the entries of a row.
"""

from __future__ import annotations

from xhat.verify.faults.dictionary import Rows

NORMALIZED = """\
    mu = np.mean(x, AXIS)
    xmu = x - mu
    var = np.mean(xmu**2, AXIS)
    std = np.sqrt(var + eps)
    x_hat = xmu / std
"""

PROJECTED = """\
    mean1 = np.mean(dx_hat, AXIS)
    mean2 = np.mean(dx_hat * x_hat, AXIS)
    dx = (dx_hat - mean1 - x_hat * mean2) / std
"""

FORWARD_ROWS: Rows = {
    "mean_over_all": (
        "The mean is taken over all entries: give np.mean AXIS.",
        "np.mean(x, AXIS)",
        "np.mean(x)",
    ),
    "mean_over_batch": (
        "The mean is taken over the batch, as in batch norm: give np.mean AXIS.",
        "np.mean(x, AXIS)",
        "np.mean(x, axis=0)",
    ),
    "statistics_over_batch": (
        "Mean and variance are taken over the batch, as in batch norm: give np.mean AXIS.",
        "np.mean(x, AXIS)",
        "np.mean(x, axis=0)",
        "np.mean(xmu**2, AXIS)",
        "np.mean(xmu**2, axis=0)",
    ),
    "variance_over_all": (
        "The variance is taken over all entries: give np.mean AXIS.",
        "np.mean(xmu**2, AXIS)",
        "np.mean(xmu**2)",
    ),
    "variance_without_axis": (
        "The variance is that of all entries around their one mean: give np.var AXIS.",
        "np.mean(xmu**2, AXIS)",
        "np.var(x)",
    ),
    "variance_over_batch": (
        "The variance is taken over the batch, as in batch norm: give np.mean AXIS.",
        "np.mean(xmu**2, AXIS)",
        "np.mean(xmu**2, axis=0)",
    ),
    "variance_not_divided": (
        "The variance is the sum of the squares: divide it by the number of entries that are summed.",
        "np.mean(xmu**2, AXIS)",
        "np.sum(xmu**2, AXIS)",
    ),
    "variance_divided_by_batch": (
        "The variance is divided by N, the number of samples: divide by the number of entries that are summed.",
        "np.mean(xmu**2, AXIS)",
        "np.sum(xmu**2, AXIS) / N",
    ),
    "variance_unbiased": (
        "The variance is divided by one less than the number of entries: divide by the number itself (ddof=0).",
        "np.mean(xmu**2, AXIS)",
        "np.var(x, AXIS, ddof=1)",
    ),
    "variance_not_centred": (
        "The variance is the mean of x² because the mean was not taken off: square x - mu.",
        "np.mean(xmu**2, AXIS)",
        "np.mean(x**2, AXIS)",
    ),
    "variance_is_std": (
        "np.std was used where the variance was meant, so that the root is taken twice: use np.var.",
        "np.mean(xmu**2, AXIS)",
        "np.std(x, AXIS)",
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
    "eps_twice": (
        "eps is added twice: add it once, under the root.",
        "np.sqrt(var + eps)",
        "np.sqrt(var + 2 * eps)",
    ),
    "root_missing": (
        "The square root is missing, so that x - mu is divided by the variance: write np.sqrt(var + eps).",
        "np.sqrt(var + eps)",
        "var + eps",
    ),
    "multiplied_by_std": (
        "x - mu is multiplied by the standard deviation: divide by it.",
        "xmu / std",
        "xmu * std",
    ),
    "std_subtracted": (
        "The standard deviation is subtracted: divide by it.",
        "xmu / std",
        "xmu - std",
    ),
    "not_centred": (
        "x is divided but the mean was not taken off: use x - mu.",
        "xmu / std",
        "x / std",
    ),
    "not_scaled": (
        "x - mu is not divided by the standard deviation.",
        "xmu / std",
        "xmu",
    ),
    "gamma_missing": (
        "gamma is not applied: multiply x_hat by it.",
        "gamma_x + beta",
        "x_hat_out + beta",
    ),
    "gamma_added": (
        "gamma is added: multiply x_hat by it.",
        "gamma_x + beta",
        "gamma + x_hat_out + beta",
    ),
    "beta_missing": (
        "beta is not added.",
        "gamma_x + beta",
        "gamma_x",
    ),
    "beta_subtracted": (
        "beta is subtracted: add it.",
        "gamma_x + beta",
        "gamma_x - beta",
    ),
    "x_modified": (
        "x is changed in place: write x - mu, which makes a new array, instead of x -= mu.",
        "xmu = x - mu",
        "x -= mu\n    xmu = x",
    ),
}

BACKWARD_ROWS: Rows = {
    "exchanged": (
        "dgamma and dbeta are returned in exchanged order: return dx, dgamma, dbeta.",
        "return dx, dgamma, dbeta",
        "return dx, dbeta, dgamma",
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
    "dout_modified": (
        "dout is changed in place: write dout * gamma, which makes a new array.",
        "dx_hat = dout * gamma",
        "dout *= gamma\n    dx_hat = dout",
    ),
    "statistics_constant": (
        "Mean and variance are treated as constants: both depend on x, so two terms are missing in dx.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "dx_hat / std",
    ),
    "mean_constant": (
        "The mean is treated as constant: the term mean(dx_hat) is missing in dx.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - x_hat * mean2) / std",
    ),
    "variance_constant": (
        "The variance is treated as constant: the term x_hat * mean(dx_hat * x_hat) is missing in dx.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1) / std",
    ),
    "mean_sign": (
        "The term mean(dx_hat) has the wrong sign: it is taken off.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat + mean1 - x_hat * mean2) / std",
    ),
    "variance_sign": (
        "The term x_hat * mean(dx_hat * x_hat) has the wrong sign: it is taken off.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 + x_hat * mean2) / std",
    ),
    "half_missing": (
        "The term of the variance is doubled: the 1/2 of the root's derivative and the 2 of the square's cancel.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 - 2 * x_hat * mean2) / std",
    ),
    "projection_without_x_hat": (
        "The term of the variance lacks x_hat: take off x_hat * mean(dx_hat * x_hat).",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 - mean2) / std",
    ),
    "not_divided_by_std": (
        "dx is not divided by the standard deviation.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "dx_hat - mean1 - x_hat * mean2",
    ),
    "multiplied_by_std": (
        "dx is multiplied by the standard deviation: divide by it.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 - x_hat * mean2) * std",
    ),
    "divided_by_variance": (
        "dx is divided by the variance: divide by the standard deviation once.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 - x_hat * mean2) / std**2",
    ),
    "only_first_divided": (
        "Only dx_hat is divided by the standard deviation: all three terms are.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "dx_hat / std - mean1 - x_hat * mean2",
    ),
    "only_last_divided": (
        "Only the last term is divided by the standard deviation: put the three terms in brackets.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "dx_hat - mean1 - x_hat * mean2 / std",
    ),
    "eps_missing": (
        "eps is dropped in the backward pass: divide by np.sqrt(var + eps), as the forward pass does.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 - x_hat * mean2) / np.sqrt(var)",
    ),
    "eps_twice": (
        "eps is counted twice: std already holds it.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 - x_hat * mean2) / np.sqrt(std**2 + eps)",
    ),
    "averaged": (
        "dx is divided by N: dout already holds the loss's 1/N.",
        "(dx_hat - mean1 - x_hat * mean2) / std",
        "(dx_hat - mean1 - x_hat * mean2) / std / N",
    ),
    "mean_over_all": (
        "The mean of dx_hat is taken over all entries: give np.mean AXIS.",
        "np.mean(dx_hat, AXIS)",
        "np.mean(dx_hat)",
    ),
    "mean_over_batch": (
        "The mean of dx_hat is taken over the batch, as in batch norm: give np.mean AXIS.",
        "np.mean(dx_hat, AXIS)",
        "np.mean(dx_hat, axis=0)",
    ),
    "mean_not_divided": (
        "dx_hat is summed: take its mean.",
        "np.mean(dx_hat, AXIS)",
        "np.sum(dx_hat, AXIS)",
    ),
    "mean_divided_by_batch": (
        "The sum of dx_hat is divided by N, the number of samples: divide by the number of entries that are summed.",
        "np.mean(dx_hat, AXIS)",
        "np.sum(dx_hat, AXIS) / N",
    ),
    "mean_without_gamma": (
        "The term of the mean lacks gamma: average dx_hat = dout * gamma.",
        "np.mean(dx_hat, AXIS)",
        "np.mean(DOUT, AXIS)",
    ),
    "projection_over_all": (
        "The mean of dx_hat * x_hat is taken over all entries: give np.mean AXIS.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.mean(dx_hat * x_hat)",
    ),
    "projection_over_batch": (
        "The mean of dx_hat * x_hat is taken over the batch, as in batch norm: give np.mean AXIS.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.mean(dx_hat * x_hat, axis=0)",
    ),
    "projection_not_divided": (
        "dx_hat * x_hat is summed: take its mean.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.sum(dx_hat * x_hat, AXIS)",
    ),
    "projection_divided_by_batch": (
        "The sum of dx_hat * x_hat is divided by N: divide by the number of entries that are summed.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.sum(dx_hat * x_hat, AXIS) / N",
    ),
    "projection_n_minus_1": (
        "The mean of dx_hat * x_hat is divided by one entry less, while the forward pass divides by the number itself.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.sum(dx_hat * x_hat, AXIS) / (M - 1)",
    ),
    "projection_without_gamma": (
        "The term of the variance lacks gamma: use dx_hat = dout * gamma.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.mean(DOUT * x_hat, AXIS)",
    ),
    "projection_of_centred": (
        "mean(dx_hat * x_hat) uses x - mu: divide it by the standard deviation.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.mean(dx_hat * x_hat * std, AXIS)",
    ),
    "projection_mean_of_x_hat": (
        "The mean of x_hat alone was taken, which is zero: take the mean of dx_hat * x_hat.",
        "np.mean(dx_hat * x_hat, AXIS)",
        "np.mean(x_hat, AXIS)",
    ),
}

PARAMETER_ROWS: Rows = {
    "dbeta_mean": (
        "dbeta is averaged: sum it.",
        "np.sum(dout, SUM)",
        "np.mean(dout, SUM)",
    ),
    "dbeta_with_gamma": (
        "dbeta has a factor gamma too many: sum dout alone.",
        "np.sum(dout, SUM)",
        "np.sum(dout * gamma, SUM)",
    ),
    "dbeta_not_summed": (
        "dbeta has the shape of dout: sum dout over all axes but the one of the parameters.",
        "np.sum(dout, SUM)",
        "dout",
    ),
    "dbeta_over_all": (
        "dbeta is one number for all: give np.sum the axes, so that one number per parameter is left.",
        "np.sum(dout, SUM)",
        "np.sum(dout)",
    ),
    "dgamma_with_gamma": (
        "dgamma has a factor gamma too many: sum dout * x_hat.",
        "np.sum(dout * X_HAT, SUM)",
        "np.sum(dout * gamma * X_HAT, SUM)",
    ),
    "dgamma_without_x_hat": (
        "dgamma ignores x_hat and equals dbeta: sum dout * x_hat.",
        "np.sum(dout * X_HAT, SUM)",
        "np.sum(dout, SUM)",
    ),
    "dgamma_mean": (
        "dgamma is averaged: sum it.",
        "np.sum(dout * X_HAT, SUM)",
        "np.mean(dout * X_HAT, SUM)",
    ),
    "dgamma_not_summed": (
        "dgamma has the shape of dout: sum dout * x_hat over all axes but the one of the parameters.",
        "np.sum(dout * X_HAT, SUM)",
        "dout * X_HAT",
    ),
    "dgamma_over_all": (
        "dgamma is one number for all: give np.sum the axes, so that one number per parameter is left.",
        "np.sum(dout * X_HAT, SUM)",
        "np.sum(dout * X_HAT)",
    ),
}

QUANTITIES = {
    "the sum over each row": "np.sum(x, AXIS)",
    "the mean of each row": "mu",
    "x - mean": "xmu",
    "(x - mean)²": "xmu**2",
    "the sum over each row of (x - mean)²": "np.sum(xmu**2, AXIS)",
    "the variance of each row": "var",
    "the mean of x²": "np.mean(x**2, AXIS)",
    "var + eps": "var + eps",
    "the standard deviation, with eps": "std",
    "1 / std": "1 / std",
    "1 / (var + eps)": "1 / std**2",
    "1 / std³": "1 / std**3",
    "dx_hat * x_hat": "dx_hat * x_hat",
    "dx_hat * (x - mean)": "dx_hat * xmu",
    "dx_hat / std": "dx_hat / std",
    "the sum over each row of dx_hat": "np.sum(dx_hat, AXIS)",
    "the mean of each row of dx_hat": "np.mean(dx_hat, AXIS)",
    "the sum over each row of dx_hat * x_hat": "np.sum(dx_hat * x_hat, AXIS)",
    "the mean of each row of dx_hat * x_hat": "np.mean(dx_hat * x_hat, AXIS)",
    "x_hat * mean(dx_hat * x_hat)": "x_hat * np.mean(dx_hat * x_hat, AXIS)",
    "x_hat * sum(dx_hat * x_hat)": "x_hat * np.sum(dx_hat * x_hat, AXIS)",
    "dx_hat - mean(dx_hat)": "dx_hat - np.mean(dx_hat, AXIS)",
    "dx * std": "dx_hat - np.mean(dx_hat, AXIS) - x_hat * np.mean(dx_hat * x_hat, AXIS)",
    "the gradient of the standard deviation": "-np.sum(dx_hat * x_hat, AXIS) / std",
    "the gradient of the variance": "-0.5 * np.sum(dx_hat * x_hat, AXIS) / std**2",
    "the gradient of the mean": "-np.sum(dx_hat, AXIS) / std",
}
"""What right code in other styles holds besides."""
