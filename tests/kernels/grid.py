"""The data on which a normalization may lose digits, and what it must give for them, in long double.

Everything is said in lines: a line is the numbers that share a mean and a variance, whichever axes of x they lie on.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import xhat

LINES = 10
LENGTH = 512

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
HALF = (FLOAT16, BFLOAT16)
DTYPES = (FLOAT32, FLOAT64, *HALF)


class Norm(NamedTuple):
    """One public function, and how lines lie in its x."""

    name: str
    module: Any
    split: Callable[[int, int], tuple[int, ...]]  # (lines, length) -> shape of x, a channel axis cut into groups
    order: tuple[int, ...]  # the axes of that, those that number the lines first
    kept: int  # how many of them do
    own: tuple[int, ...]  # the axes that a parameter has
    centred: bool = True
    least: int = 1  # the shortest line that is allowed

    def shape(self, lines: int, length: int) -> tuple[int, ...]:
        """Return the shape of x."""
        split = self.split(lines, length)
        return (split[0], split[1] * split[2], *split[3:]) if self.name == "group" else split

    def laid(self, lines: np.ndarray) -> np.ndarray:
        """Return x from its lines."""
        split = self.split(*lines.shape)
        x = lines.reshape([split[i] for i in self.order]).transpose(np.argsort(self.order))
        return np.ascontiguousarray(x).reshape(self.shape(*lines.shape))

    def lines(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the lines, of the given shape, from x."""
        return np.ascontiguousarray(x.reshape(self.split(*shape)).transpose(self.order)).reshape(shape)

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of gamma and beta for lines of the given shape."""
        split = self.split(*shape)
        return (math.prod(split[i] for i in self.own),)

    def spread(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return a parameter in long double beside every number of the lines."""
        split = self.split(*shape)
        wide = parameter.astype(np.longdouble).reshape([n if i in self.own else 1 for i, n in enumerate(split)])
        return self.lines(np.broadcast_to(wide, split), shape)

    def shared(self, terms: np.ndarray) -> np.ndarray:
        """Return the sums of terms beside the lines over all that a parameter belongs to."""
        split = self.split(*terms.shape)
        others = [i for i in range(len(split)) if i not in self.own]
        laid = self.laid(terms).reshape(split).transpose(*self.own, *others)
        return np.ascontiguousarray(laid).reshape(*self.parameter_shape(terms.shape), -1).sum(1)

    def forward(self, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, shape: tuple[int, ...]):
        """Call the public function; RMS norm has no beta."""
        match self.name:
            case "RMS":
                return self.module.forward(x, gamma, eps)
            case "group":
                return self.module.forward(x, gamma, beta, groups=self.split(*shape)[1], eps=eps)
            case "batch channels-last":
                return self.module.forward(x, gamma, beta, eps, channel_axis=-1)
        return self.module.forward(x, gamma, beta, eps)


def _divisor(n: int) -> int:
    """Return the smallest divisor above 1: an even length becomes an image, a prime one a column."""
    return next((k for k in range(2, math.isqrt(n) + 1) if n % k == 0), n)


def _sides(n: int) -> tuple[int, int]:
    """Return the two sides of an image of n positions, as equal as they can be."""
    height = next(k for k in range(math.isqrt(n), 0, -1) if n % k == 0)
    return height, n // height


def _image(length: int) -> tuple[int, int, int]:
    """Cut a line into a few images: how many, and their two sides."""
    count = _divisor(length)
    return count, *_sides(length // count)


def _samples(lines: int) -> tuple[int, int]:
    """Cut the number of lines into samples and what each of them has."""
    each = _divisor(lines)
    return lines // each, each


def _nchw(lines: int, length: int) -> tuple[int, ...]:
    count, height, width = _image(length)
    return count, lines, height, width


NORMS = (
    Norm("batch", xhat.batch_norm, lambda lines, length: (length, lines), (1, 0), 1, (1,), least=2),
    Norm("batch NCHW", xhat.batch_norm, _nchw, (1, 0, 2, 3), 1, (1,), least=2),
    Norm(
        "batch channels-last",
        xhat.batch_norm,
        lambda lines, length: (*_image(length), lines),
        (3, 0, 1, 2),
        1,
        (3,),
        least=2,
    ),
    Norm("layer", xhat.layer_norm, lambda lines, length: (lines, length), (0, 1), 1, (1,)),
    Norm(
        "group",
        xhat.group_norm,
        lambda lines, length: (*_samples(lines), *_image(length)),
        (0, 1, 2, 3, 4),
        2,
        (1, 2),
        least=2,
    ),
    Norm(
        "instance",
        xhat.instance_norm,
        lambda lines, length: (*_samples(lines), *_sides(length)),
        (0, 1, 2, 3),
        2,
        (1,),
        least=2,
    ),
    Norm("RMS", xhat.rms_norm, lambda lines, length: (lines, length), (0, 1), 1, (1,), centred=False),
)


class Case(NamedTuple):
    """Lines with a name."""

    name: str
    x: np.ndarray  # (lines, length)
    eps: float
    dy_scale: float = 1.0  # so that dx stays within the type
    extreme: bool = False  # the variance itself leaves the range of float64


def _standard(rng: np.random.Generator, lines: int = LINES, length: int = LENGTH) -> np.ndarray:
    return rng.standard_normal((lines, length))


def _outliers(rng: np.random.Generator, size: float) -> np.ndarray:
    """In each line another number is the outlier; the first and the last among them."""
    x = _standard(rng)
    where = [0, 1, 2, 3, LENGTH // 4, LENGTH // 2, LENGTH // 2 + 1, 3 * LENGTH // 4, LENGTH - 2, LENGTH - 1]
    x[np.arange(LINES), where] = size
    return x


def _one_off(dtype: np.dtype, value: float) -> np.ndarray:
    """All numbers equal but one, which is the next that the type has."""
    x = np.full((LINES, LENGTH), value, dtype)
    places = np.arange(LINES) * (LENGTH - 1) // (LINES - 1)
    ulp = 2.0 ** (math.floor(math.log2(value)) - ml_dtypes.finfo(dtype).nmant)
    x[np.arange(LINES), places] = value + ulp
    return x


_MEANS = {
    FLOAT32: [10.0**k for k in range(1, 8)],
    FLOAT64: [10.0**k for k in (1, 3, 6, 8, 10, 12, 14, 15)],
    FLOAT16: [10.0, 100.0, 1000.0],
    BFLOAT16: [10.0, 100.0],
}
_SCALES = {
    FLOAT32: [1e-44, 1e-40, 1e-38, 1e-30, 1e-23, 1e-20, 1e-10, 1e10, 1e18, 1e19, 1e30, 1e37],
    FLOAT64: [10.0**k for k in (-150, -100, -30, -10, 10, 30, 100, 150)],
    FLOAT16: [1e-7, 1e-5, 1e-3, 1e3, 1e4],
    BFLOAT16: [1e-40, 1e-38, 1e-20, 1e10, 1e19, 1e37],
}
SCALES_BEYOND = {
    "small": [10.0**k for k in (-300, -250, -200, -160)],
    "large": [10.0**k for k in (155, 160, 200, 250, 300, 306)],
}
EXTREMES = (*SCALES_BEYOND, "to the limit")
_LARGEST = {FLOAT32: 3.4e38, FLOAT64: 1e150, FLOAT16: 65504.0, BFLOAT16: 3.3e38}
_OUTLIERS = {FLOAT32: [1e2, 1e4, 1e8], FLOAT64: [1e2, 1e4, 1e8, 1e15], FLOAT16: [1e2, 1e4], BFLOAT16: [1e2, 1e4, 1e8]}


def _shapes(dtype: np.dtype, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the cases whose scale is moderate."""
    yield "N(0, 1)", _standard(rng)
    for mean in _MEANS[dtype]:
        signs = np.where(np.arange(LINES) % 2, -1, 1)[:, None]
        yield f"mean {mean:.0e}", signs * mean + _standard(rng)
    for size in _OUTLIERS[dtype]:
        yield f"outlier {size:.0e}", _outliers(rng, size)
    yield "sorted", np.sort(_standard(rng) ** 3, axis=1)
    yield "ramp", 100.0 + np.tile(np.arange(LENGTH, dtype=np.float64), (LINES, 1))
    yield "bimodal", rng.choice([-500.0, 500.0], (LINES, LENGTH)) + _standard(rng)
    yield "ReLU", np.maximum(_standard(rng), 0)
    yield "mostly zero", np.where(rng.random((LINES, LENGTH)) < 0.01, _standard(rng), 0)
    yield "image", np.clip(np.rint(250 + 3 * _standard(rng)), 0, 255)
    yield "heavy tails", np.clip(rng.standard_cauchy((LINES, LENGTH)), -6e4, 6e4)
    yield "log-normal", np.minimum(np.exp(2.5 * _standard(rng)), 6e4)
    yield "one ULP off 1", _one_off(dtype, 1.0)
    yield "one ULP off 1000", _one_off(dtype, 1000.0)


def cases(dtype: np.dtype) -> Iterator[Case]:
    """Yield the whole grid for one type."""
    rng = np.random.default_rng(30)
    for name, x in _shapes(dtype, rng):
        for eps in (0.0, 1e-5):
            yield Case(f"{name}, eps {eps:g}", x.astype(dtype), eps, 1e-3)
    if dtype not in HALF:
        x = (1 + 1e-6 * _standard(rng)).astype(dtype)
        for eps in (0.0, 1e-12, 1e-5):
            yield Case(f"std 1e-6 at mean 1, eps {eps:g}", x, eps, 1e-3)
    pair = np.where(np.arange(2) == 0, 1e3, 1e3 + (1e-3 if dtype not in HALF else 8))
    yield Case("two numbers, a small gap", np.tile(pair, (LINES, 1)).astype(dtype), 0.0, 1e-3)
    for scale in _SCALES[dtype]:
        x = (scale * _standard(rng)).astype(dtype)
        yield Case(f"scale {scale:.0e}, eps 0", x, 0.0, min(scale, 1.0))
        yield Case(f"scale {scale:.0e}, eps 1e-5", x, 1e-5, 1e-3)
    largest = _LARGEST[dtype]
    signs = np.tile([-1.0, 1.0], (LINES, LENGTH // 2))
    yield Case("alternating extremes", (largest * signs).astype(dtype), 0.0)
    yield Case("uniform up to the largest", (largest * rng.uniform(-1, 1, (LINES, LENGTH))).astype(dtype), 1e-5)


def extreme_cases(which: str) -> Iterator[Case]:
    """Yield float64 data whose variance leaves the range of float64, though what is asked for does not."""
    rng = np.random.default_rng(31)
    if which == "to the limit":
        signs = np.tile([-1.0, 1.0], (LINES, LENGTH // 2))
        yield Case("alternating extremes", 1.7e308 * signs, 0.0, extreme=True)
        yield Case("uniform up to the largest", 1.7e308 * rng.uniform(-1, 1, (LINES, LENGTH)), 1e-5, extreme=True)
        return
    for scale in SCALES_BEYOND[which]:
        x = scale * np.clip(_standard(rng), -4, 4)
        yield Case(f"scale {scale:.0e}", x, 0.0, min(scale * 1e4, 1.0), extreme=True)
        yield Case(f"mean and scale {scale:.0e}", 2 * scale + x, 0.0, min(scale * 1e4, 1.0), extreme=True)


class Call(NamedTuple):
    """A case with all that a norm needs besides."""

    case: Case
    norm: Norm
    dy: np.ndarray  # lines
    gamma: np.ndarray
    beta: np.ndarray


class Result(NamedTuple):
    """What forward and backward give, y and dx as lines, statistics one for each line; no means without centring."""

    y: np.ndarray
    dx: np.ndarray
    dgamma: np.ndarray
    dbeta: np.ndarray
    mean: np.ndarray
    mean_low: np.ndarray
    var: np.ndarray
    rstd: np.ndarray


def call_of(case: Case, norm: Norm, seed: int = 32) -> Call:
    """Return a call with random dy, gamma and beta; the parameters are numbers that float32 has."""
    rng = np.random.default_rng(seed)
    size = norm.parameter_shape(case.x.shape)
    gamma = (rng.uniform(0.5, 2, size) * rng.choice([-1, 1], size)).astype(np.float32).astype(np.float64)
    beta = rng.standard_normal(size).astype(np.float32).astype(np.float64) * norm.centred
    dy = (case.dy_scale * rng.standard_normal(case.x.shape)).astype(case.x.dtype)
    return Call(case, norm, dy, gamma, beta)


def run(call: Call) -> Result:
    """Call the public functions."""
    case, norm, dy, gamma, beta = call
    shape = case.x.shape
    y, cache = norm.forward(norm.laid(case.x), gamma, beta, case.eps, shape)
    gradients = norm.module.backward(norm.laid(dy), cache)
    assert y.dtype == gradients.dx.dtype == case.x.dtype
    rstd = cache.rstd.reshape(-1)
    if norm.centred:
        statistics = cache.mean, cache.mean_low, cache.var
    else:
        statistics = np.zeros_like(rstd), np.zeros_like(rstd), cache.mean_square
    return Result(
        norm.lines(y, shape),
        norm.lines(gradients.dx, shape),
        gradients.dgamma,
        gradients.dbeta if norm.centred else np.zeros_like(gamma),
        *(s.reshape(-1) for s in statistics),
        rstd,
    )


def bits(result: Result) -> list[bytes]:
    """Return all the numbers of a result as bytes."""
    return [part.tobytes() for part in result]


class Truth(NamedTuple):
    """The same in long double; statistics (lines, 1), the mean in two parts."""

    y: np.ndarray
    dx: np.ndarray
    dgamma: np.ndarray
    dbeta: np.ndarray
    x_hat: np.ndarray
    mean: np.ndarray
    rest: np.ndarray
    var: np.ndarray
    rstd: np.ndarray


def truth(call: Call) -> Truth:
    """Follow the textbook, with the mean taken twice: long double has digits to spare then, and range for squares."""
    case, norm, dy, gamma, beta = call
    x, dy = case.x.astype(np.longdouble), dy.astype(np.longdouble)
    mean = x.mean(1, keepdims=True) * norm.centred
    rest = (x - mean).mean(1, keepdims=True) * norm.centred
    centred = (x - mean) - rest
    var = (centred * centred).mean(1, keepdims=True)
    with np.errstate(divide="ignore"):
        rstd = np.where(var + case.eps == 0, 0, 1 / np.sqrt(var + case.eps))
    x_hat = centred * rstd
    dx_hat = dy * norm.spread(gamma, x.shape)
    along_ones = dx_hat.mean(1, keepdims=True) * norm.centred
    dx = rstd * (dx_hat - along_ones - x_hat * (dx_hat * x_hat).mean(1, keepdims=True))
    y = x_hat * norm.spread(gamma, x.shape) + norm.spread(beta, x.shape)
    return Truth(y, dx, norm.shared(dy * x_hat), norm.shared(dy) * norm.centred, x_hat, mean, rest, var, rstd)


class Errors(NamedTuple):
    """Largest error, as a share of what is named.

    For 16 bits, y and dx are in units in the last place of each true number; only where such a unit is below the last
    digits of float64 of the line, those count.
    """

    y: float  # largest |gamma * x_hat| of the line, plus |beta|
    dx: float  # largest |gamma * dy| of the line, times rstd; or largest |dx|, which a few outliers can make larger
    dgamma: float  # sum of |dy| times the largest |x_hat| of the line
    dbeta: float  # sum of |dy|
    mean: float  # standard deviation
    var: float
    rstd: float


EPS64 = float(np.finfo(np.float64).eps)
INSIDE = 1e-13  # what float64 inside may leave of a number that should be 0, as a share of its line
_HALF = Errors(1.0, 1.0, 2.0**-23, 1e-11, 1e-11, 1e-11, 1e-11)
TARGETS = {
    FLOAT32: Errors(2.0**-23, 2e-7, 2.0**-23, 1e-11, 1e-11, 1e-11, 1e-11),
    # gamma and beta round y once each, gamma dx; var is a square, with twice the error of its root
    FLOAT64: Errors(*(n * EPS64 for n in (5, 5, 5, 4, 4, 8, 4))),
    FLOAT16: _HALF,
    BFLOAT16: _HALF,
}


def ulp(true: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the unit in the last place that the type has at each number."""
    facts = ml_dtypes.finfo(dtype)
    exponent = np.where(true == 0, facts.minexp, np.frexp(true)[1] - 1)
    return np.ldexp(np.longdouble(1), np.maximum(exponent, facts.minexp) - facts.nmant)


def worst(difference: np.ndarray, scale: np.ndarray, rounding: float = 0.0) -> float:
    """Return the largest share, past a rounding that the type cannot avoid; 0 of 0 is no error, NaN is one."""
    difference, scale = np.broadcast_arrays(np.abs(difference), scale)
    wrong = ~(difference <= rounding)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (difference[wrong] - rounding) / scale[wrong]
    return float(np.nan_to_num(share.max(initial=0), nan=np.inf))


def errors(call: Call, result: Result, true: Truth) -> Errors:
    """Compare a result with the truth."""
    case, norm, dy, gamma, beta = call
    dtype, shape = case.x.dtype, case.x.shape
    wide_gamma, wide_dy = norm.spread(gamma, shape), dy.astype(np.longdouble)
    largest = np.abs(true.x_hat).max(1, keepdims=True)
    rounding = float(ml_dtypes.finfo(dtype).smallest_subnormal) / 2
    y_scale = np.abs(wide_gamma * true.x_hat).max(1, keepdims=True) + np.abs(norm.spread(beta, shape))
    dx_scale = np.abs(wide_gamma * wide_dy).max(1, keepdims=True) * true.rstd
    dx_scale = np.maximum(dx_scale, np.abs(true.dx).max(1, keepdims=True))
    if dtype in HALF:
        rounding = 0.0  # the unit of a subnormal number says it
        y_scale = np.maximum(ulp(true.y, dtype), INSIDE * y_scale)
        dx_scale = np.maximum(ulp(true.dx, dtype), INSIDE * dx_scale)
    mean, mean_low, var, rstd = (s.astype(np.longdouble)[:, None] for s in result[4:])
    return Errors(
        y=worst(result.y.astype(np.longdouble) - true.y, y_scale, rounding),
        dx=worst(result.dx.astype(np.longdouble) - true.dx, dx_scale, rounding),
        dgamma=worst(result.dgamma - true.dgamma, norm.shared(np.abs(wide_dy) * largest)),
        dbeta=worst(result.dbeta - true.dbeta, norm.shared(np.abs(wide_dy))),
        mean=worst(((mean - true.mean) + mean_low) - true.rest, np.sqrt(true.var)),
        var=0.0 if case.extreme else worst(var - true.var, true.var),
        rstd=worst(rstd - true.rstd, true.rstd),
    )
