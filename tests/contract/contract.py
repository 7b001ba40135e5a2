"""What every layer promises, as functions that raise AssertionError. Nothing here names a layer.

`JUDGEMENTS` are those that a wrong formula must not pass: the mutation test runs them on seeded faults.
"""

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

from xhat import kernels
from xhat.core import Case, Layer
from xhat.kernels import small
from xhat.verify.numeric import central_difference, complex_step

DTYPES = (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)

# The one tolerance table: largest error of any output, relative to the largest entry of that output.
TOLERANCE = {np.dtype(dtype): 8 * float(ml_dtypes.finfo(dtype).eps) for dtype in DTYPES}

MESSAGE = re.compile(r"[\w.]+: expected .+, got .+\. [A-Z0-9].*\.", re.DOTALL)


def cases_of(layer: type[Layer]) -> list[Case]:
    return list(layer.cases())


def arguments(case: Case, parameters: dict[str, Any]) -> dict[str, Any]:
    """What the case's Op is called with; copied, so that a random generator draws the same mask again."""
    layer = copy.copy(case.layer)
    layer.parameters = parameters
    return copy.deepcopy({**layer.arguments(case.training), **case.arguments})


def run(case: Case, x: Any, parameters: dict[str, Any], dy: Any) -> tuple[Any, Any, Any]:
    """The public pair: y, cache, gradients."""
    op = case.layer.op(case.training)
    y, cache = op.forward(x, **arguments(case, parameters))
    return y, cache, op.backward(dy, cache)


def judge_gradient(case: Case) -> None:
    """The reference's backward is the gradient of the reference's forward, entry by entry, in float64."""
    if case.dx is not None:  # worked out by hand, perhaps at a corner, where there is no derivative
        return
    rng = np.random.default_rng(1)
    op = case.layer.op(case.training)
    x, parameters = case.draw(rng)
    y, cache = op.reference_forward(x, **arguments(case, parameters))
    dy = rng.standard_normal(y.shape)
    gradients = op.reference_backward(dy, cache)
    for name, values in {"x": x, **parameters}.items():

        def objective(changed: Any, name: str = name) -> Any:
            at = {**parameters, name: changed} if name != "x" else parameters
            return (op.reference_forward(changed if name == "x" else x, **arguments(case, at))[0] * dy).sum()

        got = getattr(gradients, f"d{name}")
        assert got.shape == values.shape, f"d{name} has shape {got.shape}, not {values.shape}"
        true, rough = np.empty(values.shape), np.empty(values.shape)
        for index in np.ndindex(values.shape):
            direction = np.zeros(values.shape)
            direction[index] = 1
            true[index] = complex_step(objective, values, direction)
            rough[index] = central_difference(objective, values, direction)
        size = np.abs(true).max()
        if name in case.zero_gradients:
            assert size < 1e-12, f"d{name} is declared zero but has size {size:.1e}"
            assert np.abs(got).max() < 1e-12
            continue
        assert size > 1e-3, f"d{name} has size {size:.1e}: nothing would be tested"
        error = np.abs(got - true).max()
        assert error <= 1e-12 * size, f"d{name}: error {error:.1e} beside a gradient of size {size:.1e}"
        error = np.abs(got - rough).max()
        assert error <= (1e-6 + 1e-10 * np.abs(x).max()) * size, (
            f"d{name}: {error:.1e} from central differences, size {size:.1e}"
        )


def judge_example(case: Case) -> None:
    """The numbers worked out by hand come out, of the reference and of every implementation."""
    if case.y is None:
        return
    x, parameters = case.draw(np.random.default_rng(1))
    op = case.layer.op(case.training)
    pairs = [(op.reference_forward, op.reference_backward, "textbook")]
    pairs += [(op.forward, op.backward, variant) for variant in kernels.VARIANTS]
    for forward, backward, variant in pairs:
        with kernels.use(variant if variant in kernels.VARIANTS else "reference"):
            y, cache = forward(x, **arguments(case, parameters))
            assert np.allclose(y, case.y, rtol=1e-14, atol=1e-14), f"{variant}: y {y}, by hand {case.y}"
            if case.dy is not None:
                dx = backward(np.asarray(case.dy, np.float64), cache).dx
                assert np.allclose(dx, case.dx, rtol=1e-13, atol=1e-13), f"{variant}: dx {dx}, by hand {case.dx}"


def the_layers_own_way() -> AbstractContextManager[Any]:
    """Small arrays too go the way that others go."""
    doors = [name for name in vars(small) if name.endswith(("_forward", "_backward"))]
    return mock.patch.multiple(small, **dict.fromkeys(doors, lambda *arguments, **settings: None))


def implementations() -> Iterator[tuple[str, AbstractContextManager[Any]]]:
    """Everything that computes, by name, and how it is chosen."""
    for variant in kernels.VARIANTS:
        yield variant, kernels.use(variant)
    yield f"{kernels.variant()}, the layer's own way,", the_layers_own_way()


def judge_agreement(case: Case, dtype: Any = np.float64) -> None:
    """Every implementation gives what the reference gives in extended precision, in the type of its input."""
    rng = np.random.default_rng(2)
    with np.errstate(over="ignore"):
        x, parameters = case.draw(rng, dtype)
    if not np.isfinite(x).all():  # numbers that the type does not reach
        return
    op = case.layer.op(case.training)
    exact = {name: values.astype(np.longdouble) for name, values in {"x": x, **parameters}.items()}
    true_y, true_cache = op.reference_forward(exact.pop("x"), **arguments(case, exact))
    dy = rng.standard_normal(true_y.shape).astype(dtype)
    true_gradients = op.reference_backward(dy.astype(np.longdouble), true_cache)
    inputs = x.copy(), dy.copy(), {name: values.copy() for name, values in parameters.items()}
    for variant, chosen in implementations():
        with chosen:
            y, cache, gradients = run(case, x, parameters, dy)
        _close(f"{variant} y", y, true_y, x.dtype)
        assert gradients._fields == true_gradients._fields
        for name, got in gradients._asdict().items():
            true = getattr(true_gradients, name)
            if true is None:
                assert got is None
                continue
            like = x if name == "dx" else parameters[name[1:]]
            assert got.shape == like.shape
            _close(f"{variant} {name}", got, true, like.dtype, floor=float(np.abs(dy.astype(float)).max()))
        for (name, kept), (_, true) in zip(saved(cache), saved(true_cache), strict=True):
            if isinstance(kept, np.ndarray) and kept.dtype == np.float64:
                rounding = 1e-11 + 1e-15 * float(np.abs(x).max())
                assert np.allclose(kept, np.asarray(true, float), rtol=1e-12, atol=rounding), f"{variant} cache.{name}"
            elif isinstance(kept, np.ndarray) and kept.dtype.kind in "bu":
                assert kept.dtype == true.dtype, f"{variant} cache.{name}"
                assert np.array_equal(kept, true), f"{variant} cache.{name}"
            elif isinstance(kept, float | int | tuple):
                assert kept == true or (name.endswith("axis") and np.ndim(kept) == 0), f"{variant} cache.{name}"
    assert np.array_equal(x, inputs[0]), "forward or backward changed x"
    assert np.array_equal(dy, inputs[1]), "forward or backward changed dy"
    assert all(np.array_equal(parameters[name], values) for name, values in inputs[2].items())


def saved(cache: Any, name: str = "cache") -> Iterator[tuple[str, Any]]:
    """What a cache holds, and what the caches in it hold."""
    for field, kept in cache._asdict().items():
        inside = kept if isinstance(kept, tuple) else ()
        if hasattr(kept, "_asdict"):
            yield from saved(kept, f"{name}.{field}")
        elif any(hasattr(part, "_asdict") for part in inside):
            for i, part in enumerate(inside):
                yield from saved(part, f"{name}.{field}[{i}]")
        else:
            yield f"{name}.{field}", kept


def _close(what: str, got: Any, true: Any, dtype: Any, floor: float = 0.0) -> None:
    assert isinstance(got, np.ndarray), f"{what} is no array"
    assert got.dtype == dtype, f"{what} has type {got.dtype}, not {dtype}"
    assert got.shape == true.shape, f"{what} has shape {got.shape}, not {true.shape}"
    if not got.size:
        return
    size = max(float(np.abs(true).max()), floor)
    error = float(np.abs(got.astype(np.longdouble) - true).max())
    assert error <= TOLERANCE[np.dtype(dtype)] * size, f"{what}: error {error:.1e} beside size {size:.1e}"


JUDGEMENTS = (judge_example, judge_agreement, judge_gradient)


def layouts(values: Any) -> Iterator[tuple[str, Any]]:
    """The same numbers lying differently in memory."""
    yield "Fortran order", np.array(values, order="F")
    yield "reversed strides", values[::-1].copy()[::-1] if values.ndim else values
    wide = np.zeros((*values.shape, 2), values.dtype)
    wide[..., 0] = values
    yield "every other entry", wide[..., 0]
    if values.dtype.kind == "f" and values.dtype.name != "bfloat16":
        yield "big-endian", values.astype(values.dtype.newbyteorder(">"))
    raw = np.zeros(values.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(values.dtype).reshape(values.shape)
    unaligned[...] = values
    yield "unaligned", unaligned
    locked = values.copy()
    locked.flags.writeable = False
    yield "read-only", locked


def check_layouts(case: Case, variant: str, dtype: Any) -> None:
    """How an array lies in memory changes no bit of the result."""
    rng = np.random.default_rng(3)
    with np.errstate(over="ignore"):
        x, parameters = case.draw(rng, dtype)
    with kernels.use(variant):
        y, _ = case.layer.op(case.training).forward(x, **arguments(case, parameters))
        dy = rng.standard_normal(y.shape).astype(dtype)
        y, _, gradients = run(case, x, parameters, dy)
        for (name, other_x), (_, other_dy) in zip(layouts(x), layouts(dy), strict=True):
            changed = {key: dict(layouts(values))[name] for key, values in parameters.items()}
            other_y, _, others = run(case, other_x, changed, other_dy)
            assert other_y.dtype == y.dtype
            assert np.array_equal(other_y, y, equal_nan=True), f"{name}: y differs"
            for field, values in gradients._asdict().items():
                assert values is None or np.array_equal(getattr(others, field), values, equal_nan=True), (
                    f"{name}: {field} differs"
                )


def check_out(case: Case, variant: str, dtype: Any) -> None:
    """Where `out` is taken it is what comes back, and one that does not fit is refused."""
    op = case.layer.op(case.training)
    if "out" not in inspect.signature(op.forward).parameters:
        return
    rng = np.random.default_rng(4)
    with np.errstate(over="ignore"):
        x, parameters = case.draw(rng, dtype)
    kwargs = arguments(case, parameters)
    with kernels.use(variant):
        y, cache = op.forward(x, **kwargs)
        dy = rng.standard_normal(y.shape).astype(dtype)
        dx = op.backward(dy, cache).dx
        out = np.full_like(y, np.nan)
        assert op.forward(x, **kwargs, out=out)[0] is out
        assert np.array_equal(out, y, equal_nan=True)
        out = np.full_like(dx, np.nan)
        assert op.backward(dy, cache, out=out).dx is out
        assert np.array_equal(out, dx, equal_nan=True)
        flipped = dict(layouts(x))["reversed strides"]  # must be copied to compute; its memory is still the caller's
        if flipped.size > 1 and flipped.base is not None and y.shape == x.shape:
            whole = np.lib.stride_tricks.as_strided(flipped.base, x.shape, x.strides)
            before = flipped.copy()
            assert_refused(lambda: op.forward(flipped, **kwargs, out=whole))
            assert np.array_equal(flipped, before, equal_nan=True)
        for call, right, read in (
            (lambda bad: op.forward(x, **kwargs, out=bad), y, [x, *kwargs.values()]),
            (lambda bad: op.backward(dy, cache, out=bad), dx, [dy, *cache]),
        ):
            locked = np.empty_like(right)
            locked.flags.writeable = False
            wrong = [np.empty((3, *right.shape), dtype), np.empty(right.shape, np.int32), locked, right.tolist()]
            wrong += [view for values in read for view in overlapping(values, right)]
            if right.size > 1:
                wrong.append(np.empty((*right.shape, 2), dtype)[..., 0])
            for bad in wrong:
                assert_refused(lambda call=call, bad=bad: call(bad))


def overlapping(values: Any, like: Any) -> Iterator[Any]:
    """An array of the shape and type of another, in the memory of what is read."""
    if isinstance(values, np.ndarray) and 0 < like.nbytes <= values.nbytes and values.flags.c_contiguous:
        yield values.reshape(-1).view(np.uint8)[: like.nbytes].view(like.dtype).reshape(like.shape)


def check_errors(case: Case, variant: str) -> None:
    """Bad input is refused with a message that says who, expected, got and what to do; forged caches too."""
    rng = np.random.default_rng(5)
    x, parameters = case.draw(rng, np.float32)
    op = case.layer.op(case.training)
    kwargs = arguments(case, parameters)
    with kernels.use(variant):
        y, cache = op.forward(x, **kwargs)
        dy = rng.standard_normal(y.shape).astype(np.float32)
        for bad in (
            np.zeros(x.shape, int),
            np.zeros(x.shape, bool),
            np.zeros(x.shape, complex),
            np.zeros(x.shape, object),
            np.full(x.shape, "1"),
            np.zeros(x.shape, np.longdouble),
            np.ma.masked_array(x),
            None,
            "x",
        ):
            assert_refused(lambda bad=bad: op.forward(bad, **kwargs))
            assert_refused(lambda bad=bad: op.backward(bad, cache))
        assert_refused(lambda: op.backward(dy[None], cache))
        assert_refused(lambda: op.backward(np.concatenate([dy, dy]), cache))
        for name, values in parameters.items():
            for bad in (
                np.zeros((2, *values.shape)),
                values.astype(complex),
                values > 0,
                "w",
                np.ma.masked_array(values),
            ):
                assert_refused(lambda name=name, bad=bad: op.forward(x, **{**kwargs, name: bad}))
        try:
            y, _ = op.forward(np.float32(3), **kwargs)
        except (TypeError, ValueError) as error:
            assert MESSAGE.fullmatch(str(error)), f"0-d x: {error}"
        else:
            assert isinstance(y, np.ndarray)
            assert y.shape == ()
        for bad in (None, (), tuple(cache), 7):
            assert_refused(lambda bad=bad: op.backward(dy, bad))
        for what, forged in forged_caches(cache):
            assert_refused(lambda forged=forged: op.backward(dy, forged), what)


def check_extremes(case: Case, variant: str) -> None:
    """Numbers as large and as small as the type holds give finite results without a warning, or are refused."""
    rng = np.random.default_rng(9)
    x, parameters = case.draw(rng)
    op = case.layer.op(case.training)
    kwargs = arguments(case, parameters)
    with kernels.use(variant):
        for scale in (0.0, 1e-300, 1e-160, 1e100, 1e160, 1e300):
            try:
                y, cache = op.forward(scale * x, **kwargs)
            except ValueError as error:
                assert MESSAGE.fullmatch(str(error)), f"x of {scale}: {error}"
                continue
            gradients = op.backward(rng.standard_normal(y.shape), cache)
            for name, values in {"y": y, **gradients._asdict()}.items():
                assert values is None or np.isfinite(values).all(), f"{name} is not finite for x of {scale}"


def forged_caches(cache: Any) -> Iterator[tuple[str, Any]]:
    """The cache with one saved value exchanged, and what that was; also inside the caches that it holds."""
    for name, kept in cache._asdict().items():
        for bad in forgeries(kept):
            yield f"cache.{name} = {bad!r}", cache._replace(**{name: bad})
        inside = kept if isinstance(kept, tuple) and not hasattr(kept, "_asdict") else (kept,)
        for i, part in enumerate(inside):
            if hasattr(part, "_asdict"):
                for what, forged in forged_caches(part):
                    changed = forged if part is kept else (*inside[:i], forged, *inside[i + 1 :])
                    yield f"{name}[{i}]: {what}", cache._replace(**{name: changed})


def forgeries(kept: Any) -> Iterator[Any]:
    """Values that must not pass for a saved one."""
    if isinstance(kept, np.ndarray):
        yield from ("no array", object(), 3j, np.zeros((*kept.shape, 2), kept.dtype), kept.astype(complex))
        yield np.zeros((2, *kept.shape), kept.dtype)
        yield kept.astype(object)
    elif isinstance(kept, float | int):
        yield from ("1", float("nan"), -1 - abs(kept) * 100, 1e9, None)
    elif isinstance(kept, tuple):
        yield from (bad for bad in ((99,), "ab", 99, None, (0, 0), (1.5,)) if repr(bad) != repr(kept))
    elif isinstance(kept, np.dtype):
        yield from (np.dtype(int), np.dtype(object), 5, None, "x")


def assert_refused(call: Any, what: str = "") -> None:
    try:
        call()
    except (TypeError, ValueError) as error:
        assert MESSAGE.fullmatch(str(error)), f"{what}: the message {str(error)!r} lacks who, expected, got or remedy"
    else:
        raise AssertionError(f"accepted {what or 'bad input'}")


def check_empty(case: Case, variant: str) -> None:
    """An empty batch gives an empty output and zero gradients for the parameters."""
    x, parameters = case.draw(np.random.default_rng(6), np.float32)
    empty = x[:0]
    case = replace(case, arguments={name: values[:0] for name, values in case.arguments.items()})
    with kernels.use(variant):
        try:
            y, _ = case.layer.op(case.training).forward(empty, **arguments(case, parameters))
        except ValueError as error:
            assert MESSAGE.fullmatch(str(error))
            carried = [values for values in parameters.values() if values.shape[:1] == x.shape[:1]]
            assert carried, f"an empty batch was refused: {error}"  # else the first axis carries parameters
            return
        y, _, gradients = run(case, empty, parameters, np.empty_like(y))
    assert y.size == 0
    assert gradients.dx.shape == empty.shape
    for name in parameters:
        assert not getattr(gradients, f"d{name}").any()


def check_copies(case: Case) -> None:
    """Settings build the layer again; caches can be pickled; a copy of the layer is its own."""
    layer = case.layer
    takes_rng = "rng" in inspect.signature(type(layer)).parameters
    again = type(layer)(**layer.settings(), **({"rng": 0} if takes_rng else {}))
    assert again.settings() == layer.settings()
    assert repr(again) == repr(layer)
    assert {k: v.shape for k, v in again.parameters.items()} == {k: v.shape for k, v in layer.parameters.items()}
    one, other = layer.ops
    assert one.backward is other.backward, "a layer has one backward: the cache says which forward made it"
    assert {k: v.shape for k, v in again.state.items()} == {k: v.shape for k, v in layer.state.items()}
    x, parameters = case.draw(np.random.default_rng(7))
    y, cache = layer.op(case.training).forward(x, **arguments(case, parameters))
    dy = np.random.default_rng(8).standard_normal(y.shape)
    one, two = (layer.backward(dy, kept).dx for kept in (cache, pickle.loads(pickle.dumps(cache))))
    assert np.array_equal(one, two)
    twin = copy.deepcopy(layer)
    for kind in ("parameters", "state"):
        ours, theirs = getattr(layer, kind), getattr(twin, kind)
        assert all(not np.shares_memory(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))
