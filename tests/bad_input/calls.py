"""Every public call with good arguments, and how to tell whether what it returns is right."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from tests.contract import contract

import xhat
from xhat.layers import LAYERS, LOSSES
from xhat.training import OPTIMIZERS, schedules


class Call(NamedTuple):
    """A function with good arguments.

    `judge(arguments, result)` raises AssertionError unless the result is right for plain arguments. `taken` are the
    arguments that may come in any layout, `reads` the fields of a cache that it looks at (None: all), `legal` the
    strangers that are welcome here. `errors` are refusals that come from the operating system,
    `written` is like what may be passed as `out`.
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    judge: Callable[[dict[str, Any], Any], None]
    taken: tuple[str, ...] = ()
    reads: tuple[str, ...] | None = None
    legal: tuple[str, ...] = ()
    errors: tuple[type[Exception], ...] = ()
    written: Any = None

    def optional(self, argument: str) -> bool:
        """Whether None is a value that the argument may have."""
        parameter = inspect.signature(self.function).parameters.get(argument)
        return parameter is not None and (parameter.default is None or "None" in str(parameter.annotation))


def wide(value: Any) -> Any:
    """A floating array with more digits than any result can have, also in a cache; anything else as it is."""
    if hasattr(value, "_asdict"):
        return value._replace(**{key: wide(inner) for key, inner in value._asdict().items()})
    if isinstance(value, tuple):
        return tuple(map(wide, value))
    if isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype.name == "bfloat16"):
        return value.astype(np.longdouble)
    return value


def close(what: str, got: Any, true: Any, dtype: Any, *, floor: float = 0.0, computed: Any = None) -> None:
    """The same numbers within the tolerance table, and NaN or Inf in the same places.

    `floor` is a size that errors may be measured by, `computed` the type that was computed in.
    """
    assert isinstance(got, np.ndarray), f"{what} is no array"
    assert got.dtype == dtype, f"{what} has type {got.dtype}, not {dtype}"
    true = np.asarray(true)
    assert got.shape == true.shape, f"{what} has shape {got.shape}, not {true.shape}"
    finite = np.isfinite(true.astype(dtype))
    assert np.array_equal(np.isfinite(got), finite), f"{what} is not finite elsewhere than it should be"
    if finite.any():
        size = max(float(np.abs(true[finite]).max()), floor)
        error = float(np.abs(got.astype(np.longdouble) - true)[finite].max())
        tolerance = max(contract.TOLERANCE[np.dtype(kind)] for kind in (dtype, computed or dtype))
        smallest = float(ml_dtypes.finfo(dtype).smallest_subnormal)
        assert error <= tolerance * size + smallest, f"{what}: error {error:.1e} beside size {size:.1e}"


def reference(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the reference gives; where it can give nothing, nothing may have been accepted."""
    try:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)
    except Exception as error:
        raise AssertionError(f"accepted what the reference cannot compute: {error}") from None


def saved(cache: Any, name: str) -> Any:
    """What a cache, or the first cache that it holds, has kept under a name; None if there is nothing."""
    inside = (part for value in cache for part in (value if isinstance(value, tuple) else (value,)))
    found = [cache, *(part for part in (*cache, *inside) if hasattr(part, "_asdict"))]
    return next((getattr(part, name) for part in found if hasattr(part, name)), None)


def takes_array(parameter: inspect.Parameter) -> bool:
    """Whether an argument is annotated as array-like, by name or as what the name stands for."""
    return any(word in str(parameter.annotation) for word in ("ArrayLike", "_SupportsArray"))


def _forward_call(name: str, op: Any, arguments: dict[str, Any], parameters: tuple[str, ...]) -> Call:
    known = inspect.signature(op.forward).parameters

    def judge(given, result):
        y, _ = result
        plain = {key: wide(value) for key, value in copy.deepcopy(given).items() if key != "out"}
        for key, value in plain.items():
            if isinstance(value, tuple | list | range) and takes_array(known[key]):
                plain[key] = np.array(value, np.longdouble)
        if "rng" in plain:
            plain["rng"] = np.random.default_rng(plain["rng"])
        true, _ = reference(op.reference_forward, **plain)
        with np.errstate(all="ignore"):
            # a product adds up numbers that may cancel
            floor = (
                float(np.abs(given["x"]).max(initial=0) * np.abs(plain["w"]).max(initial=0)) if "w" in given else 0.0
            )
            close("y", y, true, given["x"].dtype, floor=floor if np.isfinite(floor) else 0.0)

    meant = {"out", *inspect.signature(op.reference_forward).parameters}  # others choose another Op
    defaults = {
        key: p.default for key, p in known.items() if key in meant and key not in arguments and p.default is not p.empty
    }
    return Call(name, op.forward, {**arguments, **defaults}, judge, taken=("x", *parameters))


def _backward_call(name: str, op: Any, dy: Any, cache: Any) -> Call:
    def judge(given, result):
        kept = given["cache"]
        plain = wide(kept)
        axis = getattr(kept, "axis", ())
        if np.ndim(axis) == 0 or min(axis, default=0) < 0:  # as forward would have saved it
            ndim = given["dy"].ndim
            plain = plain._replace(axis=tuple(sorted(i % ndim for i in np.atleast_1d(axis).tolist())))
        true = reference(op.reference_backward, wide(given["dy"]), plain)
        sizes = [np.abs(a[np.isfinite(a)]).max(initial=1) for a in (given["dy"], saved(kept, "gamma")) if a is not None]
        size = math.prod(map(float, sizes))
        for key, got in result._asdict().items():
            if getattr(true, key) is None:
                assert got is None
                continue
            x = saved(kept, "x")
            computed = np.dtype(getattr(kept, "dtype", None) or (dy if x is None else x).dtype).newbyteorder("=")
            dtype = computed if key == "dx" else saved(kept, key[1:]).dtype
            with np.errstate(all="ignore"):
                close(key, got, getattr(true, key), dtype, floor=size, computed=computed)

    arguments = {"dy": dy, "cache": cache}
    if "out" in inspect.signature(op.backward).parameters:
        arguments["out"] = None
    return Call(name, op.backward, arguments, judge, taken=("dy",))


def op_calls() -> Iterator[Call]:
    """Yield forward and backward of every Op of every layer: each case with a random input, the first in float64 too."""
    rng = np.random.default_rng(0)
    met: set[Any] = set()
    for layer in LAYERS:
        module = layer.__module__.rpartition(".")[2]
        for i, case in enumerate(layer.cases()):
            if not isinstance(case.x, tuple):
                continue
            op = case.layer.op(case.training)
            name = f"{module}.{op.forward.__name__}"
            for dtype in (np.float32,) if op in met else (np.float32, np.float64):
                x, parameters = case.draw(rng, dtype)
                arguments = contract.arguments(case, parameters)
                y, cache = op.forward(x, **copy.deepcopy(arguments))
                dy = rng.standard_normal(y.shape).astype(dtype)
                call = _forward_call(f"{name}-{i}", op, {"x": x, **arguments}, tuple(parameters))
                yield call._replace(written=y)
                call = _backward_call(f"{module}.backward-{name}-{i}", op, dy, cache)
                yield call._replace(written=x)
            met.add(op)


def loss_calls() -> Iterator[Call]:
    """Yield every loss, and softmax."""
    for name, loss in LOSSES.items():

        def judge(given, result, loss=loss):
            value, got = result
            predictions, targets = given.values()
            if predictions.size:
                true = reference(loss.reference, wide(predictions), targets)
                if np.isfinite(predictions).all() and np.isfinite(targets).all():
                    assert abs(value - true) <= 1e-13 * abs(true)
            else:
                assert value == 0.0
            assert got.shape == predictions.shape
            assert got.dtype == predictions.dtype

        case = next(iter(loss.cases()))
        names = list(inspect.signature(loss.function).parameters)
        yield Call(
            name, loss.function, dict(zip(names, (case.predictions, case.targets), strict=True)), judge, tuple(names)
        )

    def rows_sum_to_1(given, result):
        assert result.shape == given["scores"].shape
        if result.size and np.isfinite(given["scores"]).all():
            assert np.allclose(result.sum(-1), 1)

    scores = np.random.default_rng(0).standard_normal((2, 3))
    yield Call("softmax", xhat.softmax, {"scores": scores}, rows_sum_to_1, ("scores",))


def constructor_calls() -> Iterator[Call]:
    """Yield the constructor of every layer with every setting that a case uses."""
    for layer in LAYERS:
        for i, case in enumerate(layer.cases()):
            names = inspect.signature(layer).parameters
            arguments = {**case.layer.settings()}
            arguments |= {key: value for key, value in {"rng": 0, "dtype": np.float32}.items() if key in names}

            x, _ = case.draw(np.random.default_rng(0))

            def judge(given, result, layer=layer, x=x):
                plain = layer(**given)
                assert result.settings() == plain.settings(), f"{result.settings()}, not {plain.settings()}"
                try:
                    y, cache = result.forward(x, training=True)
                    gradients = result.backward(y, cache)
                except (TypeError, ValueError) as error:
                    assert contract.MESSAGE.fullmatch(str(error)), str(error)
                else:
                    assert np.isfinite(y).all()
                    assert np.isfinite(gradients.dx).all()

            yield Call(f"{layer.__name__}-{i}", layer, arguments, judge)


def layer_calls() -> Iterator[Call]:
    """Yield `forward` and `backward` of every layer."""
    rng = np.random.default_rng(0)
    for layer in LAYERS:
        for i, case in enumerate(layer.cases()):
            instance = copy.deepcopy(case.layer)
            x, instance.parameters = case.draw(rng, np.float64)
            op = instance.op(case.training)
            before = copy.deepcopy(instance)

            def forward(x, before=before, case=case):
                again = copy.deepcopy(before)
                return again.forward(x, training=case.training, **case.arguments)

            def judge(given, result, op=op, before=before, case=case):
                arguments = copy.deepcopy({**before.arguments(case.training), **case.arguments})
                with np.errstate(all="ignore"):
                    plain = {key: wide(value) for key, value in arguments.items()}
                    true, _ = reference(op.reference_forward, wide(given["x"]), **plain)
                    close("y", result[0], true, given["x"].dtype)

            yield Call(f"{layer.__name__}.forward-{i}", forward, {"x": x}, judge, ("x",))


def same_as_plain(function: Callable[..., Any]) -> Callable[[dict[str, Any], Any], None]:
    """Judge a result by that of the plain arguments."""

    def judge(given, result):
        true = function(**given)
        assert _same(result, true), f"{result}, but {true} of plain arguments"

    return judge


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.random.Generator):
        return a.bit_generator.state == b.bit_generator.state
    if hasattr(a, "__dict__"):
        return type(a) is type(b) and (type(a).__module__.split(".")[0] != "xhat" or _same(vars(a), vars(b)))
    return type(a) is type(b) and (a == b or a != a)


def network_calls(folder: Any) -> Iterator[Call]:
    """Yield networks, training, optimizers and files."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((6, 4), np.float32), rng.integers(0, 3, 6)
    net = xhat.mlp(4, [5], 3, normalization="batch", dropout=0.5, rng=0)
    scores, caches = copy.deepcopy(net).forward(x, training=True)
    dscores = rng.standard_normal(scores.shape).astype(np.float32)
    statistics = xhat.RunningStatistics(4)
    _, cache = xhat.batch_norm.forward(x)
    path = folder / "net.safetensors"
    xhat.save(net, path)

    def call(name, function, /, errors=(), legal=(), **arguments):
        return Call(
            name, function, arguments, same_as_plain(function), ("x", "targets", "dscores"), errors=errors, legal=legal
        )

    def anew(thing, method):
        """A method of a fresh copy of a thing, which a refused call must leave as it was."""

        def function(**arguments):
            again = copy.deepcopy(thing)
            before = _arrays(again)
            try:
                return getattr(again, method)(**arguments), again
            except (TypeError, ValueError):
                assert all(np.array_equal(a, b) for a, b in zip(before, _arrays(again), strict=True)), "half done"
                raise

        return function

    yield call("RunningStatistics", xhat.RunningStatistics, channels=3, update_rate=0.1, nonfinite="raise")
    update = call("RunningStatistics.update", anew(statistics, "update"), cache=cache)

    def learned(given, result):
        assert all(np.isfinite(values).all() for values in _arrays(result[1])), "a NaN or Inf got in"
        update.judge(given, result)

    yield update._replace(reads=("mean", "var", "count"), judge=learned)
    layers = [xhat.Affine(4, 3, rng=0), xhat.ReLU()]
    names = {"classes": ("a", "b", "c"), "features": ("p", "q", "r", "s")}
    yield call("Sequential", xhat.Sequential, layers=layers, loss="squared_error", legal=("list of strings",), **names)
    yield call("Sequential.forward", anew(net, "forward"), x=x)
    yield call("Sequential.predict", anew(net, "predict"), x=x)
    yield call("Sequential.evaluate", anew(net, "evaluate"), x=x, targets=labels)
    yield call("Sequential.backward", anew(net, "backward"), dscores=dscores, caches=caches)
    yield call("Sequential.loss_and_gradients", anew(net, "loss_and_gradients"), x=x, targets=labels, l2=0.1)
    yield call("Sequential.penalty", anew(net, "penalty"), l2=0.5)
    yield call("Sequential.astype", anew(net, "astype"), dtype=np.float64)
    settings = {"normalization": "batch", "activation": "relu", "dropout": 0.5, "rng": 0, "dtype": np.float32}
    yield call("mlp", xhat.mlp, inputs=4, hidden=[5], outputs=3, loss="squared_error", **settings)

    def trainer(**arguments):
        return xhat.Trainer(copy.deepcopy(net), **arguments)

    rates = {"learning_rate": 0.01, "batch_size": 3, "l2": 0.1, "schedule": None, "patience": None, "rng": 0}
    yield call("Trainer", trainer, optimizer="adam", legal=("None", "function", "type"), **rates)
    yield call("Trainer of a network", xhat.Trainer, network=net)

    class EnoughError(Exception):
        pass

    def enough(epoch):
        raise EnoughError

    def fit(**arguments):
        fresh = trainer(batch_size=3)
        before = [values.copy() for values in _arrays(fresh.network)]
        try:
            fresh.fit(**arguments, on_epoch=enough)
        except EnoughError:
            pass
        except (TypeError, ValueError) as error:
            untouched = all(np.array_equal(a, b) for a, b in zip(before, _arrays(fresh.network), strict=True))
            assert untouched or "finite batch statistics" in str(error), "half done"  # a NaN shows in its batch
            raise
        return fresh.network.parameters

    yield call("Trainer.fit", fit, legal=("None",), x=x, targets=labels, epochs=1, validation=(x, labels))
    for name, kind in OPTIMIZERS.items():
        optimizer = kind()
        settings = {key: p.default for key, p in inspect.signature(kind).parameters.items()}
        if settings:
            yield call(kind.__name__, kind, **settings)
        parameters, gradients = {"w": np.ones(3)}, {"w": np.full(3, 0.5)}

        def update(learning_rate, name=name, parameters=parameters, gradients=gradients):
            changed = copy.deepcopy(parameters)
            OPTIMIZERS[name]().update(changed, gradients, learning_rate)
            return changed

        yield call(f"{type(optimizer).__name__}.update", update, learning_rate=0.1)
    yield call("exponential", lambda factor: schedules.exponential(factor)(1), factor=0.5)
    yield call("step", lambda every, factor: schedules.step(every, factor)(1), every=2, factor=0.5)
    yield call("cosine", lambda epochs: schedules.cosine(epochs)(1), epochs=4)
    yield call("save", lambda network: xhat.save(network, folder / "again.safetensors"), network=net)
    yield call("save to", lambda path: xhat.save(net, path), (OSError,), ("str", "str of a number"), path=path)
    yield call("load", lambda path: xhat.load(path), (OSError,), path=path)


def _arrays(thing: Any) -> list[np.ndarray]:
    """Copies of what a thing remembers."""
    if isinstance(thing, xhat.Sequential):
        return [values.copy() for values in (*thing.parameters.values(), *thing.state.values())]
    return [values.copy() for values in vars(thing).values() if isinstance(values, np.ndarray)]
