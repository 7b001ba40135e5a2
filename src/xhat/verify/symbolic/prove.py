"""The proof: the user's own functions run once on symbols, and the two sides of the identity become one dictionary.

For every input p, with V a direction of any size and U the gradient that arrives,

    sum(U * (derivative of y along V)) == sum(dp * V)        for all U, V, x, ...

The left side comes from the forward pass alone, run on p + e V with e * e = 0. It is linear in V: what stands beside V
is the true gradient. It is compared with what the backward pass returns, entry by entry, in normal form.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xhat.verify.problem import Malformed, Problem, Unsupported
from xhat.verify.rebind import Rebinding, line_of
from xhat.verify.symbolic.algebra import Factor, Poly, Space, entries, entry, opened
from xhat.verify.symbolic.arrays import Axes, Labels, Size, Symbolic, lift
from xhat.verify.symbolic.loops import rewritten
from xhat.verify.symbolic.namespace import SymbolicWorld
from xhat.verify.symbolic.state import kept

UPSTREAM = "$dout"
_DIRECTION = "$V"


_ORIGINAL = [(module, dict(vars(module))) for module in (np, np.linalg, np.random, math)]


class Gradient(NamedTuple):
    """What the symbols say of one gradient."""

    name: str  # "dx"
    true: Poly  # from the forward pass
    user: Poly | None  # from the backward pass; None if it has another shape
    axes: Axes
    shape: tuple[Any, ...]  # what backward returned
    expected: tuple[Any, ...]

    @property
    def proved(self) -> bool:
        """Whether both are one function, for all sizes and inputs."""
        return self.user is not None and not (self.true - self.user).normal()


class Proof(NamedTuple):
    """What the symbols say of a problem."""

    space: Space
    output: Poly
    output_axes: Axes
    gradients: dict[str, Gradient]
    undecided: dict[str, tuple[str, int | None]]  # by gradient, or "" for all: why, and the line
    centred: tuple[str, str] | None  # the input that was centred, and the name of its mean
    specified: bool  # whether the output is what the problem's specification says, for all sizes and inputs
    functions: frozenset[str]  # of NumPy, as modelled, that the code used
    milliseconds: float


class Refusal(Exception):  # noqa: N818  an answer
    """Nothing was decided; says why, and at which line."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.why, self.line = why, line


def prove(problem: Problem) -> Proof:
    """Run a problem's functions on symbols and derive the true gradients.

    Parameters
    ----------
    problem : Problem
        The pair. Its functions are copied and run in a world of symbols; they are not changed.

    Returns
    -------
    Proof
        The true gradients and the user's, to be compared.

    Raises
    ------
    Refusal
        If something in the code is not modelled, or the code raises an error.
    """
    start = time.perf_counter()
    if any(getattr(module, name, None) is not value for module, names in _ORIGINAL for name, value in names.items()):
        raise Refusal("NumPy or math is not as it was imported")
    plain = _Run(problem, None)
    over = plain.summed_alone()
    run = plain
    if over is not None:
        run = _Run(problem, over)
    gradients, undecided = run.gradients()
    functions = frozenset(run.world.numpy.used)
    specified = problem.specification is not None and _Run(problem, over).is_specified(problem.specification)
    spent = 1e3 * (time.perf_counter() - start)
    return Proof(run.space, run.y.poly, run.y.axes, gradients, undecided, run.centred, specified, functions, spent)


class _Run:
    """One problem in one space of symbols."""

    def __init__(self, problem: Problem, over: tuple[str, tuple[int, ...]] | None) -> None:
        self.problem = problem
        self.space = Space()
        self.world = SymbolicWorld(self.space)
        self.copied = Rebinding(self.world, rewritten)
        self.on_symbols = problem.on(self.copied)
        self.untouched = kept(self.copied.copies, self.space)
        self.axes = {name: self._axes(dims) for name, dims in problem.inputs.items()}
        self.centred: tuple[str, str] | None = None
        self.points = {name: self.space.entry(name, _flat(axes)) for name, axes in self.axes.items()}
        if over is not None:
            self._centre(*over)
        self.labels = {name: Labels(self.space, name, dim, classes) for name, (dim, classes) in problem.labels.items()}
        self.y, self.cache = self.forward()

    def _axes(self, dims: Sequence[str]) -> Axes:
        axes: list[tuple[int, ...]] = []
        for dim in dims:
            parts = [part for part in dim.split("*") if part != "1"]
            if any(part.isdecimal() for part in parts):
                raise Refusal(f"an axis of fixed length {dim}: symbols stand for all lengths")
            for part in parts:
                if part in self.problem.scalars:
                    raise Refusal(f"{part} names both a size and a number")
                self.space.symbol(part, positive=True)
            axes.append(tuple(self.space.index(part) for part in parts))
        return tuple(axes)

    def _centre(self, name: str, places: tuple[int, ...]) -> None:
        """Write an input as mean + rest, where the rest sums to 0: every input can be written so."""
        space, indices = self.space, _flat(self.axes[name])
        kept = [i for k, i in enumerate(indices) if k not in places]
        mean, rest = "$mu", "$centred"
        self.centred = (name, mean)
        self.points[name] = space.entry(mean, kept) + space.entry(rest, indices)
        bound = {i: -n for n, i in enumerate((indices[k] for k in places), 1)}
        left: Factor = (
            "S",
            tuple(space.dims[indices[k]] for k in places),
            ((entry(rest, [bound.get(i, i) for i in indices]), 1),),
        )
        space.sum_rule(left, space.number(0))

    def forward(self, moved: str | None = None) -> tuple[Symbolic, Any]:
        """Run the forward pass, with one input moved along V."""
        problem, space = self.problem, self.space
        values = self.values(moved)
        self.world.begin()
        y, cache = self._guarded(lambda: self.on_symbols.run_forward(values), problem.forward)
        y = lift(y, space)
        if y is None:
            raise Refusal("the output is not an array")
        if any(name.startswith("$undefined") for name in y.poly.names()):
            raise Refusal("the output holds entries of np.empty that nothing was written into")
        _closed(y, "the output")
        return y, cache

    def values(self, moved: str | None = None, *, others: bool = False) -> dict[str, Any]:
        """Return what the forward pass is called with; `others` are inputs of which nothing is asked."""
        problem, space = self.problem, self.space
        values: dict[str, Any] = {**self.labels}
        for name, axes in self.axes.items():
            point = space.entry(f"$other {name}", _flat(axes)) if others else self.points[name]
            if name == moved:
                point = point + space.entry(_DIRECTION, _flat(axes)) * space.symbol("$e")
            values[name] = Symbolic.of(point, axes)
        for name in {part for dims in problem.inputs.values() for dim in dims for part in dim.split("*")}:
            if name != "1":
                values.setdefault(name, Size(space.symbol(name, positive=True)))
        for name in {name for pair in problem.labels.values() for name in pair}:
            values.setdefault(name, Size(space.symbol(name, positive=True)))
        for name in problem.scalars:
            values[name] = Symbolic.scalar(space.symbol(name, positive=True))
            space.assume("{} > 0", space.symbol(name))
        for sizes in problem.sizes[:1]:
            for name, value in sizes.items():
                values.setdefault(name, value)  # a stride: no length of an axis
        return values

    def _guarded(self, call: Callable[[], Any], function: Callable[..., Any]) -> Any:
        try:
            return call()
        except Unsupported as error:
            raise Refusal(f"{error}: not modelled on symbols", line_of(error, function)) from error
        except Malformed as error:
            raise Refusal(str(error)) from error
        except RecursionError as error:
            raise Refusal("the code recurses too deeply", line_of(error, function)) from error
        except Exception as error:
            told = str(error).partition("\n")[0]
            raise Refusal(f"{type(error).__name__} on symbols: {told}", line_of(error, function)) from error

    def summed_alone(self) -> tuple[str, tuple[int, ...]] | None:
        """Return the input that is averaged, and over which of its indices, if there is one such."""
        found: set[tuple[str, tuple[int, ...]]] = set()
        polys = [named.poly for named in self.space.named.values()] + [self.y.poly]
        for factor in {f for poly in polys for monomial in poly.terms for f, _ in monomial}:
            if factor[0] != "S" or len(factor[2]) != 1:
                continue
            ((only, power),) = factor[2]
            if only[1] in self.problem.inputs and power == 1:
                found.add((only[1], tuple(k for k, i in enumerate(only[2]) if i < 0)))
        first = next(iter(self.problem.inputs))
        found = {(name, places) for name, places in found if name == first}
        return found.pop() if len(found) == 1 else None

    def is_specified(self, specification: Callable[..., Any]) -> bool:
        """Say whether the output is what the specification says, for all sizes and inputs."""
        try:
            wanted = lift(Rebinding(self.world, rewritten)(specification)(self.values()), self.space)
            if wanted is None or _named_axes(self.space, wanted.axes) != _named_axes(self.space, self.y.axes):
                return False
            same = dict(zip(_flat(wanted.axes), _flat(self.y.axes), strict=True))
            return not (wanted.poly.renamed(same) - self.y.poly).normal()
        except Exception:  # what the formula uses may not be modelled
            return False

    def gradients(self) -> tuple[dict[str, Gradient], dict[str, tuple[str, int | None]]]:
        """Return the true gradients beside those of the backward pass."""
        problem, space = self.problem, self.space
        undecided: dict[str, tuple[str, int | None]] = {}
        upstream = self._upstream()
        arriving = upstream.poly
        returned: Mapping[str, Any] = {}
        try:
            returned = self._guarded(
                lambda: self.on_symbols.run_backward(upstream, self.cache), problem.backward or problem.forward
            )
            if kept(self.copied.copies, space) != self.untouched:
                self._guarded(lambda: self._depends_on_no_other_call(returned), problem.forward)
        except Refusal as refusal:
            returned = {}
            undecided[""] = (refusal.why, refusal.line)
        result: dict[str, Gradient] = {}
        for name, gradient in zip(problem.differentiated, problem.gradients, strict=True):
            try:
                moved, _ = self.forward(name)
                if _named_axes(space, moved.axes) != _named_axes(space, self.y.axes):
                    raise Refusal("the output has other axes in a second run")
                same = dict(zip(_flat(moved.axes), _flat(self.y.axes), strict=True))
                value, slope = moved.poly.renamed(same).split()
                if (value - self.y.poly).normal():
                    raise Refusal("the output is not the same in a second run")
                functional = space.sum_over(arriving * slope, _flat(self.y.axes)).normal()
                true = self._beside(functional, self.axes[name])
                user = shape = None
                if gradient in returned:
                    given = lift(returned[gradient], space)
                    if given is None:
                        raise Refusal(f"{gradient} is not an array")
                    _closed(given, gradient)
                    shape = given.shape
                    if _named_axes(space, given.axes) == _named_axes(space, self.axes[name]):
                        user = given.poly.renamed(dict(zip(_flat(given.axes), _flat(self.axes[name]), strict=True)))
                        if any(n.startswith("$undefined") for n in user.names()):
                            raise Refusal(f"{gradient} holds entries of np.empty that nothing was written into")
                        user = user.normal()
                expected = Symbolic.of(space.number(0), self.axes[name]).shape
                result[gradient] = Gradient(gradient, true.normal(), user, self.axes[name], shape or (), expected)
            except Refusal as refusal:
                undecided[gradient] = (refusal.why, refusal.line)
            except Unsupported as error:
                undecided[gradient] = (f"{error}", None)
            except ZeroDivisionError as error:
                undecided[gradient] = (f"{error}", None)
        return result, undecided

    def _upstream(self, name: str = UPSTREAM) -> Symbolic:
        axes, space = self.y.axes, self.space
        return Symbolic.of(space.entry(name, _flat(axes)) if axes else space.symbol(name), axes)

    def _depends_on_no_other_call(self, returned: Mapping[str, Any]) -> None:
        """Refuse functions that keep something between calls, unless calls with other inputs change nothing.

        Then no calls do, by induction: what is kept after a call is the same whatever calls were made before.
        """
        space, copied = self.space, Rebinding(self.world, rewritten)
        again = self.problem.on(copied)
        passes: list[tuple[Any, Any]] = []
        for others in (True, False, True):
            self.world.begin()
            passes.append(again.run_forward(self.values(others=others)))
        again.run_backward(self._upstream("$other dout"), passes[0][1])
        y, cache = passes[1]
        result = [y, dict(again.run_backward(self._upstream(), cache))]
        first = kept([self.y, dict(returned)], space), kept(self.copied.copies, space)
        if (kept(result, space), kept(copied.copies, space)) != first:
            raise Unsupported("a state that outlives the call")

    def _beside(self, functional: Poly, axes: Axes) -> Poly:
        """Return g with sum(g * V) = functional."""
        space, target = self.space, _flat(axes)
        total = space.number(0)
        for monomial, coefficient in functional.terms.items():
            held = [(f, p) for f, p in monomial if any(e[1] == _DIRECTION for e in _parts(f))]
            if len(held) != 1 or held[0][1] != 1:
                raise Unsupported("a derivative that is not linear in its direction")
            others = Poly(space, {tuple(t for t in monomial if t != held[0]): coefficient})
            factor = held[0][0]
            if factor[0] != "S":
                total = total + others
                continue
            fresh = [space.index(dim) for dim in factor[1]]
            inner = opened(factor, fresh)
            direction = next(f for f, _ in inner if f[1] == _DIRECTION)
            if len(set(direction[2])) < len(direction[2]):
                raise Unsupported("a gradient that lives on a diagonal")
            rest = space.collect((f, p) for f, p in inner if f != direction)
            term = space.sum_over(rest, set(fresh) - set(direction[2]))
            total = total + others * term.renamed(dict(zip(direction[2], target, strict=True)))
        return total


def _parts(factor: Factor) -> list[Factor]:
    return [factor] if factor[0] == "s" else list(entries(factor))


def _closed(value: Symbolic, name: str) -> None:
    """Refuse what depends on the number of an iteration."""
    if not value.poly.free_indices() <= set(_flat(value.axes)):
        raise Refusal(f"{name} holds what the last iteration of a loop left")


def _flat(axes: Axes) -> tuple[int, ...]:
    return tuple(i for axis in axes for i in axis)


def _named_axes(space: Space, axes: Axes) -> list[list[str]]:
    return [[space.dims[i] for i in axis] for axis in axes]
