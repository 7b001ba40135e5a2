"""What is true of a pair of functions, by central differences, and what the symbols say of it."""

import copy
import textwrap
import warnings

import numpy as np

from xhat.verify.problem import Problem, size
from xhat.verify.symbolic import Refusal, prove

STEP = 1e-6
TOLERANCE = 2e-6  # central differences of float64 reach 1e-9 here; the faults that are told apart are above 1e-4
DIRECTIONS = 2


def read(text):
    """Return the functions of a piece of code, whose source can be read."""
    import linecache

    text = textwrap.dedent(text)
    file = f"<code {abs(hash(text))}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names = {"__name__": file, "np": np}
    exec(compile(f"import numpy as np\n{text}" if "\nimport numpy" not in text else text, file, "exec"), names)
    return names


def posed(text, inputs, scalars=(), labels=(), sizes=({"N": 4, "D": 3, "C": 5}, {"N": 3, "D": 5, "C": 2})):
    """Return the problem of `forward` and `backward` in a piece of code; without a backward, of a loss."""
    text = textwrap.dedent(text)
    text = text if "import numpy" in text else f"import numpy as np\n{text}"
    names = read(text)
    inputs = {name: tuple(axes) for name, axes in inputs.items()}
    labels = dict(labels)
    order = (*inputs, *labels, *scalars)
    return Problem(
        "pair",
        names["forward"],
        names.get("backward"),
        inputs,
        lambda values: (tuple(values[name] for name in order), {}),
        sizes,
        scalars=tuple(scalars),
        labels=labels,
    )


def _run(problem, values):
    np.random.seed(0)  # noqa: NPY002  unseeded noise is the same in all runs: the derivative is that for fixed noise
    y, cache = problem.run_forward(copy.deepcopy(values))
    return np.array(y, np.float64), cache


def wrong_on_floats(problem, seed=0):
    """Return the gradients that are not the derivative of the forward pass, on floats, with their errors.

    An error in a run makes all of them wrong; None where floats do not tell: the forward pass is not finite. Where a
    gradient is not finite, at a root or a logarithm, it is asked for again at positive inputs.
    """
    wrong = _wrong(problem, seed, lambda value: value)
    return _wrong(problem, seed, lambda value: abs(value) + 0.1) if wrong and "nan" in wrong.values() else wrong


def _wrong(problem, seed, moved):
    rng = np.random.default_rng(seed)
    wrong = {}
    for sizes in problem.sizes:
        values = problem.draw(rng, sizes)
        values |= {name: moved(values[name]) for name in problem.inputs}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                y, cache = _run(problem, values)
                dout = rng.standard_normal(y.shape)
                found = problem.run_backward(dout.copy() if dout.ndim else float(dout), cache)
                found = {name: np.array(value, np.float64) for name, value in found.items()}
            except Exception as error:
                return dict.fromkeys(problem.gradients, f"{type(error).__name__}: {error}")
            if not np.isfinite(y).all():
                return None
            for name, gradient in zip(problem.inputs, problem.gradients, strict=True):
                shape = tuple(np.prod([size(p, sizes) for p in a.split("*")], dtype=int) for a in problem.inputs[name])
                if found[gradient].shape != shape:
                    wrong.setdefault(gradient, f"shape {found[gradient].shape}")
                    continue
                for _ in range(DIRECTIONS):
                    v = rng.standard_normal(shape)
                    ends = [_run(problem, {**values, name: values[name] + h * v})[0] for h in (STEP, -STEP)]
                    slope = (dout * (ends[0] - ends[1])).sum() / (2 * STEP)
                    told = (found[gradient] * v).sum()
                    error = abs(slope - told) / max(1.0, abs(slope), abs(told))
                    if not error < TOLERANCE:
                        wrong[gradient] = max(error, wrong.get(gradient, 0.0)) if error == error else "nan"
    return wrong


def symbolic(problem):
    """Return what the symbols say of each gradient: True, False, or why they do not."""
    try:
        proof = prove(problem)
    except Refusal as refusal:
        return dict.fromkeys(problem.gradients, f"{refusal} (line {refusal.line})")
    said = {name: gradient.proved for name, gradient in proof.gradients.items()}
    general = proof.undecided.get("")
    return {
        name: general[0] if general else said.get(name, proof.undecided.get(name, ("missing", None))[0])
        for name in problem.gradients
    }


def unsound(problem, seed=0):
    """Return the gradients that symbols call proved and floats call wrong."""
    wrong = wrong_on_floats(problem, seed)
    return [name for name, said in symbolic(problem).items() if said is True and wrong and name in wrong]
