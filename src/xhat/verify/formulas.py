"""A gradient as a formula in plain text: read, made into a forward and a backward pass, and checked as those are.

The text is parsed and never executed: out of the nodes that are known, and only those, two NumPy functions are written
anew. A layer is a formula as well, with the shapes of what it takes and the axes that it averages over.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import numpy as np

from xhat.verify import specs
from xhat.verify.checking import check
from xhat.verify.problem import Malformed, Problem
from xhat.verify.report import Verdict, Word

_LONGEST = 2000  # characters
_DEEPEST = 40  # nodes within nodes
_MOST_TERMS = 1500  # of the formula multiplied out, at most
_HIGHEST = 64  # degree
_LARGEST = 10**9  # number
_POWERS = 12

_MOMENTS = {
    "mu": "mean(x)",
    "var": "mean((x - mu)**2)",
    "sigma": "sqrt(var + eps)",
    "rstd": "1/sigma",
    "x_hat": "(x - mu)/sigma",
}
_SPELLINGS: Mapping[str, str] = {
    "x": "x z predictions logits yhat y\u0302 ypred",
    "dy": "dy dout upstream dloss gradoutput dldy gradoutputs δ",
    "y": "y out output",
    "gamma": "gamma γ scale weight",
    "beta": "beta β shift bias",
    "eps": "eps epsilon ε",
    "mu": "mu μ mean avg average xbar x\u0304",
    "var": "var variance sigma2 σ2 sigmasq sigmasquared",
    "sigma": "sigma σ std sd",
    "rstd": "rstd invstd istd ivar rsigma invsigma rrms",
    "x_hat": "xhat x\u0302 xnorm xnormalized normalized",
    "rms": "rms",
    "p": "p probs probabilities softmax",
    "w": "w weight weights",
    "b": "b bias",
    "t": "t target targets ytrue labels y",
    "Y": "y onehot labels targets t",
}
"""How a name may be written, in lower case and without underscores."""

_SIGNS = {"²": "**2", "³": "**3", "·": "*", "×": "*", "−": "-", "'": ".T", "’": ".T", "⊙": "*"}

_SAME = ("sqrt", "exp", "log", "log1p", "expm1", "tanh", "square", "abs", "sign", "reciprocal", "negative")
_ELEMENTWISE: Mapping[str, str] = {
    **{name: f"np.{name}({{}})" for name in _SAME},
    "sigmoid": "(1 / (1 + np.exp(-{})))",
    "relu": "np.maximum({}, 0)",
}
_BINARY = ("maximum", "minimum", "add", "subtract", "multiply", "divide", "dot", "matmul", "outer")
_REDUCTIONS = ("sum", "mean", "var", "std", "max", "min")
_OWN_REDUCTIONS = (*_REDUCTIONS, "center")
_FUNCTIONS = (*_ELEMENTWISE, *_BINARY, *_OWN_REDUCTIONS, "where", "ones", "zeros", "ones_like", "zeros_like")
_METHODS = ("sum", "mean", "var", "std", "max", "min", "dot")
_OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.MatMult: "@",
}
_COMPARISONS: Mapping[type[ast.cmpop], str] = {ast.Gt: ">", ast.Lt: "<", ast.GtE: ">=", ast.LtE: "<="}
_CALLED: Mapping[str, str] = {
    **dict.fromkeys(("centre", "centered", "centred"), "center"),
    **dict.fromkeys(("avg", "average"), "mean"),
    "σ": "sigmoid",
    "Σ": "sum",
    "amax": "max",
    "amin": "min",
    "absolute": "abs",
}
"""Other names of functions."""


@dataclass(frozen=True)
class _Layer:
    """A layer as a formula.

    Parameters
    ----------
    title : str
        What messages call it.
    formula : str
        The output.
    shapes : mapping of str to str
        What it takes, as `xhat.verify.check` is told.
    axes : tuple of int
        The axes of x that `sum`, `mean`, `center` go over; of x in blocks (N, G, K, H, W) if it is `grouped`.
    meanings : mapping of str to str
        Names that a formula may use, each as a formula.
    known : str, optional
        What `specs` calls it; without, it is declared by its shapes.
    gradients : mapping of str to str
        The right formulas. They stand beside the one that is asked about, so that no time is lost on the others.
    grouped : bool
        Whether the channels are taken in groups.
    full : bool
        Whether what is summed is first laid out in the shape of x.
    target : str, optional
        What a loss compares x with.
    """

    title: str
    formula: str
    shapes: Mapping[str, str]
    axes: tuple[int, ...] = (0,)
    meanings: Mapping[str, str] = field(default_factory=dict[str, str])
    known: str | None = None
    gradients: Mapping[str, str] = field(default_factory=dict[str, str])
    grouped: bool = False
    full: bool = True
    target: str | None = None

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """The arrays that it takes, and their axes."""
        told = {name: tuple(shape.split()) for name, shape in self.shapes.items()}
        return {name: axes for name, axes in told.items() if all(re.fullmatch("[A-Z][A-Z*]*", axis) for axis in axes)}

    @property
    def sizes(self) -> dict[str, str]:
        """The names of sizes, and how each is found in the arrays."""
        found: dict[str, str] = {}
        for name, axes in self.inputs.items():
            for k, axis in enumerate(axes):
                found.setdefault(_SIZE_OF.get(axis, axis), f"{name}.shape[{k}]")
        return {**found, **({"G": "G", "K": "C // G"} if self.grouped else {})}

    @property
    def averaged(self) -> tuple[str, ...]:
        """The sizes of the axes that it averages over."""
        axes = ("N", "G", "K", "H", "W") if self.grouped else self.inputs["x"]
        return tuple(axes[k] for k in self.axes)

    def over(self, axes: tuple[int, ...]) -> tuple[str, ...]:
        """Return the names of axes of x."""
        return tuple(self.inputs["x"][k] for k in axes)

    @property
    def scalars(self) -> list[str]:
        """The positive numbers that it takes."""
        return [name for name, shape in self.shapes.items() if shape == "eps"]

    def place(self, name: str) -> str:
        """Return the index that lays a parameter along x."""
        axes, own = self.inputs["x"], self.inputs[name]
        if len(own) != 1 or own[0] not in axes or axes[-1] == own[0] or not self.full:
            return ""
        return f"[{', '.join(':' if axis in own else 'None' for axis in axes[axes.index(own[0]) :])}]"


_SIZE_OF = {"G*K": "C"}
_FLAT = {"x": "N D", "gamma": "D", "beta": "D", "eps": "eps"}
_PICTURES = {"x": "N C H W", "gamma": "C", "beta": "C", "eps": "eps"}
_SCALED = "gamma * x_hat + beta"
_NORM = {
    "x": "rstd * (gamma*dy - mean(gamma*dy) - x_hat*mean(gamma*dy*x_hat))",
    "gamma": "sum(dy*x_hat)",
    "beta": "sum(dy)",
}

_LAYERS: Mapping[str, _Layer] = {
    layer.title: layer
    for layer in (
        _Layer("batch_norm", _SCALED, _FLAT, (0,), _MOMENTS, "batch_norm", _NORM),
        _Layer("layer_norm", _SCALED, _FLAT, (1,), _MOMENTS, "layer_norm", _NORM),
        _Layer("spatial_batch_norm", _SCALED, _PICTURES, (0, 2, 3), _MOMENTS, "spatial_batch_norm", _NORM),
        _Layer("instance_norm", _SCALED, _PICTURES, (2, 3), _MOMENTS, "instance_norm", _NORM),
        _Layer(
            "group_norm",
            _SCALED,
            {"x": "N G*K H W", "gamma": "G*K", "beta": "G*K", "eps": "eps", "G": "size G"},
            (2, 3, 4),
            _MOMENTS,
            "group_norm",
            _NORM,
            grouped=True,
        ),
        _Layer(
            "rms_norm",
            "gamma * x_hat",
            {"x": "N D", "gamma": "D", "eps": "eps"},
            (1,),
            {"rms": "sqrt(mean(x**2) + eps)", "rstd": "1/rms", "x_hat": "x/rms"},
            "rms_norm",
            {"x": "(gamma*dy - x_hat*mean(gamma*dy*x_hat))/rms", "gamma": "sum(dy*x_hat)"},
        ),
        _Layer(
            "affine",
            "x @ w + b",
            {"x": "N D", "w": "D M", "b": "M"},
            known="linear",
            gradients={"x": "dy @ w.T", "w": "x.T @ dy", "b": "sum(dy)"},
            full=False,
        ),
        _Layer("relu", "maximum(x, 0)", {"x": "N D"}, known="relu"),
        _Layer("sigmoid", "1/(1 + exp(-x))", {"x": "N D"}, known="sigmoid"),
        _Layer("tanh", "tanh(x)", {"x": "N D"}, known="tanh"),
        _Layer("silu", "x/(1 + exp(-x))", {"x": "N D"}, known="silu"),
        _Layer(
            "softmax_cross_entropy",
            "np.mean(log(sum(exp(x))) - sum(Y * x))",
            {"x": "N C", "labels": "N < C"},
            (1,),
            {"p": "exp(x)/sum(exp(x))"},
            "softmax_cross_entropy",
            target="Y",
        ),
        _Layer(
            "squared_error",
            "np.mean((x - t)**2)",
            {"x": "N D", "t": "N D"},
            (0, 1),
            gradients={"x": "2*(x - t)/(N*D)", "t": "2*(t - x)/(N*D)"},
            target="t",
        ),
    )
}
_TITLES: Mapping[str, str] = {
    **{title.replace("_", ""): title for title in _LAYERS},
    "softmax": "softmax_cross_entropy",
    "mse": "squared_error",
    "linear": "affine",
}


def prove(expression: str, *, of: str, wrt: str, shapes: Mapping[str, str] | None = None, seed: int = 0) -> Verdict:
    """Prove a formula for a gradient, or say which term is wrong.

    The formula is written with NumPy's operators and functions; it is parsed and never executed. Known are, in any
    usual spelling and in Greek letters: what the layer takes (x, gamma, beta, eps), dy (dout), the output y, the sizes
    (N, D; m is the number of averaged entries), and of a normalization mu, var, sigma = sqrt(var + eps) (std), rstd,
    x_hat.

    `mean(v)`, `sum(v)`, `var(v)`, `center(v)` go over the axes that the layer averages over, and keep them; in the
    gradient of a parameter the outer one goes over all axes that the parameter does not have. With an axis, or written
    `np.mean(v)`, they are NumPy's. `H @ v` takes the mean over the samples off, `I` is the identity.

    Parameters
    ----------
    expression : str
        The formula.
    of : str
        A layer ("batch_norm"), or the formula of the output.
    wrt : str
        By what it is differentiated: "x".
    shapes : mapping of str to str, optional
        With a formula for `of`: what it takes. By default x and t are "N D", w is "D M", gamma, beta and b are "D",
        and eps is a positive number.
    seed : int
        Draws the points and primes.

    Returns
    -------
    Verdict
        PROVED, EXACT, AGREES, DISPROVED (the message says which term is missing) or NOT DECIDED. The last line of the
        message says how names and functions were read.

    Raises
    ------
    TypeError
        If something is no text.
    ValueError
        If the formula cannot be read, or holds a name or function that is not known.

    Examples
    --------
    >>> import xhat
    >>> formula = "gamma/sigma * (center(dY) - Xhat*mean(dY*Xhat))"
    >>> verdict = xhat.verify.formulas.prove(formula, of="batch_norm", wrt="x")
    >>> str(verdict.word), verdict.message.splitlines()[0]
    ('PROVED', 'for all N and D')
    >>> verdict = xhat.verify.formulas.prove("gamma/sigma * center(dY)", of="batch_norm", wrt="x")
    >>> str(verdict.word), verdict.message.splitlines()[1]
    ('DISPROVED', 'term missing: - gamma*x_hat*mean(x_hat*dy)/sigma')
    >>> str(xhat.verify.formulas.prove("dy * y * (1 - y)", of="1/(1 + exp(-x))", wrt="x").word)
    'PROVED'
    """
    for name, text in (("the formula", expression), ("of", of), ("wrt", wrt)):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"prove: expected {name} as text, got {type(text).__name__}. Put it in quotes.")
    layer = _layer(of, shapes)
    by = _spelled(wrt, layer.inputs)
    if by is None:
        known = ", ".join(layer.inputs)
        raise ValueError(f"prove: expected wrt to be one of {known}, got {_shown(wrt)}. {_nearest(wrt, layer.inputs)}")
    forward, backward, read = _functions(layer, expression, by)
    shapes = None if layer.known is not None else layer.shapes
    report = check(forward, backward, name=layer.known or "formula", shapes=shapes, seed=seed)
    verdict = report.verdicts[f"d{by}"]
    why = [finding.message for finding in report.findings] if verdict.word is Word.NOT_DECIDED else []
    message = "\n".join(filter(None, [verdict.message, *why, read]))
    message = re.sub(r"\bdout\b", "dy", message.replace("your forward", layer.title))
    shown = verdict.counterexample and re.sub(r"\bdout\b", "dy", verdict.counterexample)
    return replace(verdict, message=message, line=None, counterexample=shown)


def _layer(of: str, shapes: Mapping[str, str] | None) -> _Layer:
    """Return the layer of a name, or the one that a formula makes."""
    word = re.sub(r"[\s_-]", "", of).lower()
    if word in _TITLES:
        if shapes is not None:
            raise ValueError(f"prove: expected no shapes for {_TITLES[word]}, got some. They are for a formula of=....")
        return _LAYERS[_TITLES[word]]
    told = {str(name): str(shape) for name, shape in shapes.items()} if shapes is not None else {}
    for name, shape in told.items():
        taken = keyword.iskeyword(name) or name in ("np", "dy", "y", "v", "blocks")
        if taken or not re.fullmatch(r"[A-Z]( [A-Z])*|eps", shape) or not re.fullmatch(r"[a-z][a-z_0-9]*", name):
            raise ValueError(
                f"prove: expected shapes such as x='N D' or e='eps', got {name!r}: {shape!r}. "
                "Write a small letter for a name that is not taken, and capital letters for the axes."
            )
    known = {"x": "N D", "t": "N D", "w": "D M", "b": "D", "gamma": "D", "beta": "D", "eps": "eps", **told}
    if of.strip().isidentifier() and of.strip() not in known:
        raise ValueError(
            f"prove: expected of to be a layer ({', '.join(_LAYERS)}) or a formula, got {_shown(of)}. "
            f"{_nearest(of, _LAYERS)}"
        )
    trial = _Layer("the formula of=...", of, known, full=False)
    used = _Reader(trial, "of", set(known)).names_in(of)
    taken = {name: shape for name, shape in known.items() if name in used or name in told}
    if "x" not in taken:
        raise ValueError(f"prove: expected of to be a formula of x, got {_shown(of)}. Write it with x.")
    taken = {"x": taken.pop("x"), **taken}
    made = _Layer(trial.title, of, taken)
    x = made.inputs["x"]
    return replace(made, full=all(axes == x[len(x) - len(axes) :] for axes in made.inputs.values()))


class _Part(NamedTuple):
    """A piece of a formula in NumPy: `text`, plus `eye` times the identity matrix."""

    text: str | None
    eye: str | None = None
    scalar: bool = False
    terms: int = 1  # if it is multiplied out
    degree: int = 0


class _Reader:
    """Reads formulas of one layer, and writes them in NumPy.

    Parameters
    ----------
    layer : _Layer
        Its names.
    what : str
        What messages call the formula.
    names : collection of str
        The canonical names that it may use.
    over : tuple of int
        The axes of x that the outer sum goes over, if not those of the layer.
    """

    def __init__(self, layer: _Layer, what: str, names: Iterable[str], over: tuple[int, ...] = ()) -> None:
        self.layer, self.what, self.over = layer, what, over
        self.sizes = layer.sizes
        self.names = dict.fromkeys(names)
        self.used: set[str] = set()
        self.meanings: dict[str, str] = {}  # of names, in NumPy, each after those that it uses
        self.reductions: dict[str, tuple[int, ...]] = {}  # those that have no axis: "layer_mean", and over which axes
        self.told: dict[str, None] = {}  # how names and functions are read
        self._within = 0  # so many reductions

    def names_in(self, text: str) -> set[str]:
        """Return the names that a formula uses."""
        self.read(text)
        return self.used

    def read(self, text: str) -> str:
        """Return a formula in NumPy.

        Raises
        ------
        ValueError
            If it holds what is not known, or is too large.
        """
        part = self._part(self._parsed(text), 0)
        if part.eye is not None or part.text is None:
            self._refuse("a formula in which I stands before @", "I alone", "Write I @ dy, say.")
        return part.text

    def _refuse(self, expected: str, got: str, do: str) -> NoReturn:
        raise ValueError(f"prove: expected {expected}, got {got} in {self.what}. {do}") from None

    def _parsed(self, text: str) -> ast.expr:
        if len(text) > _LONGEST:
            self._refuse(f"at most {_LONGEST} characters", f"{len(text)}", "Name parts of it by mu, sigma, x_hat.")
        if "^" in text:
            self._refuse("** for a power", "^", "Write x**2.")
        meant = " ".join(text.split())
        for sign, replacement in _SIGNS.items():
            meant = meant.replace(sign, replacement)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python, about 1or 2
                return ast.parse(meant, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
            told = error.msg if isinstance(error, SyntaxError) else "too deeply nested"
            self._refuse("one formula in NumPy's syntax", f"{_shown(text)} ({told})", "Correct it.")

    def _part(self, node: ast.expr, depth: int) -> _Part:
        if depth > _DEEPEST:
            self._refuse(f"at most {_DEEPEST} operations within one another", "more", "Shorten it.")
        depth += 1
        match node:
            case ast.Constant():
                part = self._number(node)
            case ast.Name():
                part = self._name(node.id)
            case ast.UnaryOp(op=ast.UAdd()):
                part = self._part(node.operand, depth)
            case ast.UnaryOp(op=ast.USub()):
                inner = self._part(node.operand, depth)
                part = inner._replace(text=_negated(inner.text), eye=_negated(inner.eye))
            case ast.BinOp(op=ast.Pow()):
                part = self._power(node, depth)
            case ast.BinOp(op=ast.Div(), right=ast.BinOp(op=ast.Pow()) as divisor):
                left = self._part(node.left, depth)
                part = self._power(divisor, depth, above=left)
            case ast.BinOp() if type(node.op) in _OPERATORS:
                left, right = self._part(node.left, depth), self._part(node.right, depth)
                part = self._binary(_OPERATORS[type(node.op)], left, right)
            case ast.Compare(ops=[op], comparators=[other]) if type(op) in _COMPARISONS:
                left, right = self._plain(node.left, depth), self._plain(other, depth)
                part = _Part(f"({left.text} {_COMPARISONS[type(op)]} {right.text})", terms=1, degree=1)
            case ast.Attribute(attr="T"):
                inner = self._part(node.value, depth)
                part = inner._replace(text=None if inner.text is None else f"{inner.text}.T")
            case ast.Subscript():
                part = self._subscript(node, depth)
            case ast.Call():
                part = self._call(node, depth)
            case ast.Attribute():
                self._refuse("v.T, v.sum(...) or np.sum(...)", f".{node.attr}", "Write it with one of these.")
            case _:
                self._refuse("numbers, names, + - * / ** @ and functions", _kind(node), "Write it with these.")
        if part.terms > _MOST_TERMS or part.degree > _HIGHEST:
            self._refuse(
                "a formula of moderate size",
                "one that is too large when it is multiplied out",
                "Name parts of it by mu, sigma, x_hat, and use small powers.",
            )
        return part

    def _plain(self, node: ast.expr, depth: int) -> _Part:
        """Return a part without identity matrix."""
        part = self._part(node, depth)
        if part.eye is not None:
            self._refuse("I in sums and before @ only", "I elsewhere", "Write (I - ones((N, N))/N) @ dy, say.")
        return part

    def _number(self, node: ast.Constant) -> _Part:
        value = node.value
        if type(value) not in (int, float):
            self._refuse("numbers and names", _shown(value), "Take it out.")
        assert isinstance(value, (int, float))
        if value and not 1 / _LARGEST <= abs(value) <= _LARGEST:
            self._refuse("numbers between 1e-9 and 1e9, or 0", "another one", "Use moderate numbers.")
        return _Part(repr(value), scalar=True, degree=1)

    def _name(self, word: str) -> _Part:
        if word in self.sizes:
            return _Part(word, scalar=True)
        known = _spelled(word, self.names)
        if known is None:
            special = self._special(word)
            if special is not None:
                return special
            called = [*self.names, *self.sizes, "m"]
            if word in _FUNCTIONS or word == "np":
                self._refuse("a name", f"the function {word} alone", f"Call it: {word}(...).")
            self._refuse(
                f"a name of {self.layer.title} ({', '.join(called)})",
                _shown(word),
                _nearest(word, called, _all_words()),
            )
        self.used.add(known)
        meaning = self.layer.meanings.get(known)
        if meaning is not None and known not in self.meanings:
            inner = _Reader(self.layer, known, [*self.layer.inputs, *self.layer.scalars, *self.layer.meanings])
            text = inner.read(meaning)
            self.used |= inner.used
            self.meanings |= {**inner.meanings, known: text}
            self.reductions |= inner.reductions
            self.told |= {f"{known} = {meaning}": None, **inner.told}
        scalar = self.layer.shapes.get(known) == "eps"
        place = self.layer.place(known) if known in self.layer.inputs else ""
        return _Part(f"{known}{place}", scalar=scalar, terms=1 if scalar else 2, degree=1)

    def _special(self, word: str) -> _Part | None:
        if word == "m":
            counted = " * ".join(self.layer.averaged)
            self.told[f"m = {counted}"] = None
            return _Part(f"({counted})", scalar=True)
        if word == "I":
            return _Part(None, "1")
        if word == "H" and "N" in self.sizes:
            self.told["H = I - ones((N, N))/N"] = None
            return _Part("(-np.ones((N, N)) / N)", "1")
        return None

    def _binary(self, sign: str, left: _Part, right: _Part) -> _Part:
        if left.eye is None and right.eye is None:
            terms = left.terms + right.terms if sign in "+-" else left.terms * (1 if sign == "/" else right.terms)
            degree = max(left.degree, right.degree) if sign in "+-" else left.degree + right.degree
            scalar = left.scalar and right.scalar and sign != "@"
            return _Part(f"({left.text} {sign} {right.text})", None, scalar, terms, degree)
        terms, degree = left.terms * right.terms + left.terms + right.terms, left.degree + right.degree
        if sign in "+-":
            if left.scalar or right.scalar:
                self._refuse("a matrix beside I", "a number", "Write ones((N, N)), or c*I, with its size.")
            return _Part(_joined(sign, left.text, right.text), _joined(sign, left.eye, right.eye), False, terms, degree)
        if sign == "@":
            # (a I + R) @ (b I + S) = a b I + a S + b R + R @ S
            texts = [_product(left.eye, right.text), _product(right.eye, left.text)]
            texts.append(None if left.text is None or right.text is None else f"({left.text} @ {right.text})")
            told = [text for text in texts if text is not None]
            return _Part(f"({' + '.join(told)})" if told else None, _product(left.eye, right.eye), False, terms, degree)
        matrix, number = (left, right) if left.eye is not None else (right, left)
        if not number.scalar or (sign == "/" and matrix is right):
            self._refuse(
                "I times a number, or before @",
                "I beside * or / with an array",
                "Put brackets around what @ joins: gamma/sigma * (H @ dy).",
            )
        text, eye = (None if t is None else f"({t} {sign} {number.text})" for t in (matrix.text, matrix.eye))
        return _Part(text, eye, False, terms, degree)

    def _power(self, node: ast.BinOp, depth: int, above: _Part | None = None) -> _Part:
        """Return a power, or what stands above it divided by it."""
        base = self._plain(node.left, depth)
        value = _literal(node.right)
        if value is None or abs(value) > _POWERS or (2 * value) % 1:
            self._refuse(
                f"a whole or half number up to {_POWERS} after **", _shown_node(node.right), "Write x**2 or v**-0.5."
            )
        n = math.ceil(abs(value))
        terms = math.comb(base.terms + n - 1, n) if value > 0 and value % 1 == 0 else 1

        def powered(exponent: float) -> str:
            return f"({base.text} ** {int(exponent) if exponent % 1 == 0 else exponent})"

        part = _Part(powered(value), None, base.scalar, terms, max(1, n) * base.degree)
        if above is None:
            return part
        quotient = self._binary("/", above, part)
        if above.eye is not None or base.scalar:
            return quotient
        # symbols keep a power below the line only where it is written as one
        return quotient._replace(text=f"({above.text} * {powered(-value)})")

    def _subscript(self, node: ast.Subscript, depth: int) -> _Part:
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        told: list[str] = []
        for item in items:
            match item:
                case ast.Slice(lower=None, upper=None, step=None):
                    told.append(":")
                case ast.Constant(value=None):
                    told.append("None")
                case ast.Constant(value=value) if value is ...:
                    told.append("...")
                case ast.Attribute(value=ast.Name(id="np"), attr="newaxis"):
                    told.append("None")
                case _:
                    self._refuse("v[:, None] and the like", _shown_node(node), "Use : and None only.")
        if not told or len(told) > 6:
            self._refuse("v[:, None] and the like", _shown_node(node), "Use : and None only.")
        part = self._plain(node.value, depth)
        text = part.text or ""
        known = _spelled(node.value.id, self.names) if isinstance(node.value, ast.Name) else None
        if known in self.layer.inputs:
            text = known or ""  # whoever lays gamma along x himself gets it as it is
        return part._replace(text=f"{text}[{', '.join(told)}]", scalar=False)

    # --- functions ----------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, depth: int) -> _Part:
        match node.func:
            case ast.Name(id=word):
                name, own, of = _CALLED.get(word, word), True, list(node.args)
                name = name.lower() if name.lower() in _FUNCTIONS else name
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=word):
                name, own, of = _CALLED.get(word, word), False, list(node.args)
                if name in ("sigmoid", "relu", "center"):
                    name = f"np.{name}"
            case ast.Attribute(value=value, attr=word) if word in _METHODS:
                name, own, of = word, False, [value, *node.args]
            case ast.Attribute(attr=word):
                name, own, of = f".{word}", False, []
            case _:
                self._refuse("a function", "a call of something else", f"Use {', '.join(_FUNCTIONS)}.")
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        if None in options or any(isinstance(a, ast.Starred) for a in of):
            self._refuse("plain arguments", "* or **", "Write them out.")
        if name not in _FUNCTIONS:
            self._refuse(f"a function out of {', '.join(_FUNCTIONS)}", _shown(word), _nearest(word, _FUNCTIONS))
        if name in _OWN_REDUCTIONS:
            return self._reduction(name, of, options, depth, own=own)
        if options:
            self._refuse(f"no options of {name}", f"{next(iter(options))}=", "Leave them out.")
        if name in ("ones", "zeros"):
            return self._filled(name, of)
        wanted = 3 if name == "where" else 2 if name in _BINARY else 1
        if len(of) != wanted:
            self._refuse(f"{name} of {wanted} argument{'s' * (wanted > 1)}", f"{len(of)}", "Give as many.")
        if name in ("dot", "matmul", "add", "subtract", "multiply", "divide"):
            sign = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}.get(name, "@")
            return self._binary(sign, self._part(of[0], depth), self._part(of[1], depth))
        parts = [self._plain(argument, depth) for argument in of]
        texts = [part.text or "" for part in parts]
        scalar = all(part.scalar for part in parts)
        if name in _ELEMENTWISE:
            (part,) = parts
            terms = part.terms**2 if name == "square" else part.terms if name in ("negative", "abs", "relu") else 2
            degree = 2 * part.degree if name == "square" else part.degree + 1
            return _Part(_ELEMENTWISE[name].format(texts[0]), None, scalar, terms, degree)
        if name.endswith("_like"):
            return _Part(f"np.{name}({texts[0]})")
        terms = math.prod(part.terms for part in parts) if name == "outer" else 2 * sum(part.terms for part in parts)
        return _Part(f"np.{name}({', '.join(texts)})", None, scalar, terms, sum(part.degree for part in parts))

    def _filled(self, name: str, of: Sequence[ast.expr]) -> _Part:
        """Return an array of ones or zeros; its shape is told by sizes only."""
        items = of[0].elts if len(of) == 1 and isinstance(of[0], (ast.Tuple, ast.List)) else of
        axes = [item.id for item in items if isinstance(item, ast.Name) and item.id in self.sizes]
        if len(axes) != len(items) or len(axes) not in (1, 2):
            sizes = ", ".join(self.sizes)
            self._refuse(f"{name} of one or two sizes out of {sizes}", f"{name} of others", f"Write {name}((N, N)).")
        return _Part(f"np.{name}(({', '.join(axes)},))")

    def _reduction(
        self, name: str, of: list[ast.expr], options: Mapping[str | None, ast.expr], depth: int, *, own: bool
    ) -> _Part:
        given = dict(options)
        if len(of) == 2 and "axis" not in given:
            given["axis"] = of.pop()
        known = {"axis", "keepdims", *(["ddof"] if name in ("var", "std") else [])}
        if len(of) != 1 or not set(given) <= known:
            self._refuse(f"{name}(v), or {name}(v, axis=0, keepdims=True)", "other arguments", "Write it so.")
        own = own and not given
        if name == "center" and not own:
            self._refuse("center(v)", "center with an axis", "Write v - mean(v, axis=0).")
        outer = own and self.over != () and self._within == 0 and name in ("sum", "mean")
        self._within += 1
        part = self._plain(of[0], depth)
        self._within -= 1
        square = name in ("var", "std")
        terms = part.terms**2 if square else 2 * part.terms if name == "center" else part.terms
        terms = 2 if name in ("std", "max", "min") else terms
        if not own:
            told = "".join(f", {key}={self._option(str(key), value)}" for key, value in sorted(given.items(), key=str))
            text = f"np.{name}({part.text}{told})"
            if "axis" not in given:
                self.told[f"np.{name}(v) over all entries"] = None
        else:
            if self.layer.grouped and name in ("max", "min"):
                self._refuse(f"no {name} over groups", name, "Name the axes.")
            axes = self.layer.over(self.over) if outer else self.layer.averaged
            without = " without eps" if square and self.layer.scalars else ""
            self.told[f"{'outer ' if outer else ''}{name}(v) over {', '.join(axes)}{without}"] = None
            called = f"{name}_{'_'.join(map(str, self.over))}" if outer else f"layer_{name}"
            self.reductions[called] = self.over if outer else self.layer.axes
            text = f"_{called}({part.text})"
        return _Part(text, None, False, terms, (2 if square else 1) * part.degree)

    def _option(self, key: str, node: ast.expr) -> str:
        several = isinstance(node, ast.Tuple)
        values = [_literal(item) for item in (node.elts if several else [node])]
        whole = [int(value) for value in values if value is not None and value % 1 == 0 and -4 <= value < 4]
        told = ", ".join(map(str, whole))
        if len(whole) < len(values) or not whole or len(whole) > 4 or (several and key != "axis"):
            self._refuse(f"{key} as a plain value", _shown_node(node), "Write axis=0, axis=(0, 2), keepdims=True.")
        if key == "keepdims":
            return str(whole[0] != 0)
        return f"({told},)" if several else told


# --- the two functions ----------------------------------------------------------------------------------------------


def _functions(layer: _Layer, expression: str, by: str) -> tuple[Callable[..., Any], Callable[..., Any], str]:
    """Return a forward and a backward pass, and how the formula was read."""
    known = [*layer.inputs, *layer.scalars, *(["Y"] if layer.target == "Y" else []), *layer.meanings]
    output = _Reader(layer, "of", known)
    computed = output.read(layer.formula)
    known += ["dy"] if layer.target else ["dy", "y"]
    readers: dict[str, _Reader] = {}
    gradients: dict[str, str] = {}
    for name in layer.inputs:
        text = expression if name == by else layer.gradients.get(name, f"0 * {name}")
        readers[name] = _Reader(layer, "the formula", known, _over(layer, name))
        gradients[name] = readers[name].read(text)

    given = ", ".join(layer.shapes)
    kept = f"({given}, y)"
    head = [f"def forward({given}):", *_body(layer, [output]), f"    y = {computed}", f"    return y, {kept}"]
    head += ["def backward(dy, cache):", f"    {kept} = cache", *_body(layer, list(readers.values()))]

    def built() -> tuple[Callable[..., Any], Callable[..., Any]]:
        returned = "".join(f"{text}, " for text in gradients.values())
        names: dict[str, Any] = {"np": np, "__name__": "formula"}
        exec(compile("\n".join([*head, f"    return ({returned})"]), "<formula>", "exec"), names)
        return names["forward"], names["backward"]

    declared = None if layer.known is not None else layer.shapes
    problem = specs.find(layer.known or "formula", *built(), declaration=declared).problem
    shapes, loss = _tried(problem)
    for name, reader in readers.items():
        if loss and "dy" not in reader.used:
            gradients[name] = f"(dy * {gradients[name]})"
        gradients[name] += _shaped(layer, name, shapes[name], problem.shape(name, problem.sizes[0]))
    told = list(readers[by].told)
    if not loss and "dy" not in readers[by].used:
        told.append("no dy, the gradient that arrives, in it")
    return *built(), f"read with {', '.join(told)}" if told else ""


def _over(layer: _Layer, name: str) -> tuple[int, ...]:
    """Return the axes of x that a parameter does not have; () for x, and for what does not lie along x."""
    own, x = layer.inputs[name], layer.inputs["x"]
    return tuple(k for k, axis in enumerate(x) if axis not in own) if layer.full and own != x else ()


def _shaped(layer: _Layer, name: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return what makes a gradient of a formula's shape one of the input's shape: sums keep their axes there."""
    over, ndim = _over(layer, name), len(layer.inputs["x"])
    if len(got) <= len(wanted) and all(a in (1, b) for a, b in zip(got[::-1], wanted[::-1], strict=False)):
        return f" + 0 * {name}"
    if over and len(got) == ndim and all(got[k] == 1 for k in over):
        return f"[{', '.join('0' if k in over else ':' for k in range(ndim))}]"
    return "[0]" if len(wanted) == 1 and got == (1, *wanted) else ""


def _body(layer: _Layer, readers: Sequence[_Reader]) -> list[str]:
    """Return the lines that give the names of formulas their values."""
    lines = [f"{size} = {value}" for size, value in layer.sizes.items() if size != value]
    if any("Y" in reader.used for reader in readers):
        lines.append("Y = np.eye(C)[labels]")
    needed: dict[str, tuple[int, ...]] = {}
    for name, axes in (item for reader in readers for item in reader.reductions.items()):
        needed |= {**dict.fromkeys(_BEFORE.get(name, ()), axes), name: axes}
    for name, axes in needed.items():
        own = name.startswith("layer_")
        what = name.removeprefix("layer_").partition("_")[0]
        laid = "(v + 0 * x)" if layer.full else "v"
        lines.append(f"def _{name}(v):")
        if name in _COMPOSED:
            lines.append(f"    return {_COMPOSED[name]}")
        elif layer.grouped and own:
            lines.append(f"    blocks = {laid}.reshape((N, G, K, H, W))")
            lines.append(f"    return (np.{what}(blocks, axis={axes}, keepdims=True) + 0 * blocks).reshape(x.shape)")
        else:
            lines.append(f"    return np.{what}({laid}, axis={axes}, keepdims=True)")
    lines += [f"{name} = {text}" for reader in readers for name, text in reader.meanings.items()]
    return [f"    {line}" for line in lines]


_COMPOSED = {
    "layer_center": "v - _layer_mean(v)",
    "layer_var": "_layer_mean(_layer_center(v) ** 2)",
    "layer_std": "np.sqrt(_layer_var(v))",
}
_BEFORE = {
    "layer_center": ("layer_mean",),
    "layer_var": ("layer_mean", "layer_center"),
    "layer_std": ("layer_mean", "layer_center", "layer_var"),
}


def _tried(problem: Problem) -> tuple[dict[str, tuple[int, ...]], bool]:
    """Return the shapes of the gradients at some numbers, by input, and whether the output is a single number."""
    rng = np.random.default_rng(0)
    try:
        with np.errstate(all="ignore"):
            y, cache = problem.run_forward(problem.draw(rng, problem.sizes[0]))
            values = problem.run_backward(rng.standard_normal(np.shape(y)), cache)
    except ArithmeticError as error:
        raise ValueError(f"prove: expected a formula that has a value, got the answer: {error}. Correct it.") from None
    except (ValueError, TypeError, IndexError, Malformed) as error:
        shown = ", ".join(f"{name} ({', '.join(axes)})" for name, axes in problem.inputs.items())
        raise ValueError(
            f"prove: expected shapes that fit ({shown}), got the answer: {error}. "
            "Keep the axis that is summed, with keepdims=True, or lay a parameter along x, with gamma[:, None]."
        ) from None
    if any(np.asarray(array).dtype.kind not in "fbiu" for array in (y, *values.values())):
        raise ValueError("prove: expected real numbers, got others. Take no root of a negative number.")
    return {name[1:]: np.shape(value) for name, value in values.items()}, np.shape(y) == ()


# --- words ----------------------------------------------------------------------------------------------------------


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", word).lower().replace("_", "")


_KNOWN_AS: Mapping[str, frozenset[str]] = {
    name: frozenset(map(_folded, (name, *spellings.split()))) for name, spellings in _SPELLINGS.items()
}


def _spelled(word: str, names: Iterable[str]) -> str | None:
    """Return which of the names a word is."""
    if word in names:
        return word
    return next((name for name in names if _folded(word) in _KNOWN_AS.get(name, (_folded(name),))), None)


def _all_words() -> list[str]:
    return [word for spellings in _SPELLINGS.values() for word in spellings.split()]


def _nearest(word: str, known: Iterable[str], more: Iterable[str] = ()) -> str:
    near = difflib.get_close_matches(word[:40], [*known, *more], 1)
    return f"Did you mean {near[0]!r}?" if near else "Use one of these."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def _shown_node(node: ast.AST) -> str:
    try:
        return _shown(ast.unparse(node))
    except (RecursionError, ValueError):
        return _kind(node)


def _kind(node: ast.AST) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower()


def _literal(node: ast.expr) -> float | None:
    """Return a plain number, with its sign; a fraction of two is one as well."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value) if abs(value) <= _LARGEST else None
        case ast.UnaryOp(op=ast.USub()):
            value = _literal(node.operand) if not isinstance(node.operand, ast.UnaryOp) else None
            return None if value is None else -value
        case ast.BinOp(op=ast.Div(), left=ast.Constant() | ast.UnaryOp(), right=ast.Constant()):
            above, below = _literal(node.left), _literal(node.right)
            return above / below if above is not None and below else None
        case _:
            return None


def _negated(text: str | None) -> str | None:
    return None if text is None else f"(-{text})"


def _joined(sign: str, left: str | None, right: str | None) -> str | None:
    if left is None:
        return right if sign == "+" else _negated(right)
    return left if right is None else f"({left} {sign} {right})"


def _product(left: str | None, right: str | None) -> str | None:
    return None if left is None or right is None else f"({left} * {right})"
