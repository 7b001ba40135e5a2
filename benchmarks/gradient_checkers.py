"""Who finds what: every mistake of the dictionaries, shown to every checker of gradients.

    python benchmarks/gradient_checkers.py [--short] [--csv FILE] [--markdown]

The checkers are torch.autograd.gradcheck (default and fast mode) around the NumPy pair, and the central differences of
CS231n (`eval_numerical_gradient_array`, relative error below 1e-6) with a random dout and with dout = ones. What
`xhat check` finds is read from what benchmarks/check_faults.py measured.
The layers have eps = 1e-5, as users have it, and activations of standard deviation 1 and 1000. A checker that refuses
the right code of a layer too is not counted as finding anything there. What is not installed is left out, and said.
`--markdown` writes the table into docs/check.md.
"""

import argparse
import csv
import importlib
import linecache
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from xhat.cs231n.gradient_check import eval_numerical_gradient_array

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "check.md"
CSV = ROOT / "benchmarks" / "results" / "gradient_checkers.csv"
FOUND = ROOT / "benchmarks" / "results" / "check_faults.csv"
MARK = "gradient checkers"

EPS = 1e-5
XHAT = "xhat check"
SCALES = (1.0, 1000.0)
RELATIVE_ERROR = 1e-6
# Central differences with h = 1e-5 are no better than this, whatever the gradient. Without it the course's measure
# refuses right code wherever a gradient is zero by the mathematics: batch norm's dx for dout = ones.
NOISE = 1e-7
SHORT = 4  # mistakes per layer and side


class Layer(NamedTuple):
    """How the layer's functions are called: with these arrays, the first of which is scaled, and with what follows."""

    shapes: dict[str, tuple[int, ...]]
    more: Callable[[], list]


def _bn_param():
    return [{"mode": "train", "eps": EPS}]


_ROWS = {"x": (5, 3), "gamma": (3,), "beta": (3,)}
_IMAGES = {"x": (2, 4, 3, 2), "gamma": (4,), "beta": (4,)}
_LABELS = np.array([0, 2, 1, 1, 3])

LAYERS = {
    "batch_norm": Layer(_ROWS, _bn_param),
    "spatial_batch_norm": Layer(_IMAGES, _bn_param),
    "layer_norm": Layer(_ROWS, lambda: [{"eps": EPS}]),
    "group_norm": Layer({"x": (2, 4, 3, 2), "gamma": (1, 4, 1, 1), "beta": (1, 4, 1, 1)}, lambda: [2, {"eps": EPS}]),
    "instance_norm": Layer(_IMAGES, lambda: [EPS]),
    "rms_norm": Layer({"x": (5, 3), "gamma": (3,)}, lambda: [EPS]),
    "affine": Layer({"x": (5, 2, 2), "w": (4, 3), "b": (3,)}, list),
    "relu": Layer({"x": (5, 3)}, list),
    "dropout": Layer({"x": (5, 3)}, lambda: [{"mode": "train", "p": 0.6, "seed": 5}]),
    "conv": Layer({"x": (2, 2, 5, 4), "w": (3, 2, 3, 2), "b": (3,)}, lambda: [{"stride": 2, "pad": 1}]),
    "max_pool": Layer({"x": (2, 2, 5, 5)}, lambda: [{"pool_height": 3, "pool_width": 2, "stride": 2}]),
    "flatten": Layer({"x": (4, 2, 3)}, list),
    "softmax_cross_entropy": Layer({"x": (5, 4)}, lambda: [_LABELS]),
    "hinge_loss": Layer({"x": (5, 4)}, lambda: [_LABELS]),
    "squared_error": Layer({"x": (5, 3)}, lambda: [np.arange(15.0).reshape(5, 3) / 7 - 1]),
}


class Pair(NamedTuple):
    """A forward and a backward pass, as the layer's table entry calls them; a loss has no backward."""

    layer: str
    forward: Callable
    backward: Callable | None

    def run(self, arrays):
        """Return y and the cache; of a loss, the loss and its gradients."""
        result = self.forward(*arrays, *LAYERS[self.layer].more())
        return result[0], result[1] if self.backward is not None else result[1:]

    def gradients(self, dout, cache):
        """Return a gradient for every array."""
        found = self.backward(dout, cache) if self.backward is not None else [dout * each for each in cache]
        found = found if isinstance(found, (tuple, list)) else [found]
        if len(found) != len(LAYERS[self.layer].shapes):
            raise ValueError(f"expected {len(LAYERS[self.layer].shapes)} gradients, got {len(found)}")
        return found


def pair_of(layer, text):
    """Return the last forward and the last backward of a module's text."""
    file = f"<{layer} {hash(text)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace = {"__name__": file}
    exec(compile(text, file, "exec"), namespace)
    defined = [name for name, value in namespace.items() if callable(value) and not name.startswith("__")]
    backward = [name for name in defined if "backward" in name]
    forward = [name for name in defined if "forward" in name] if backward else defined
    return Pair(layer, namespace[forward[-1]], namespace[backward[-1]] if backward else None)


def arrays_of(layer, scale):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in LAYERS[layer].shapes.values()]
    arrays[0] = scale * arrays[0] + scale / 2
    return arrays


# --- the checkers: each returns whether it refuses a pair -------------------------------------------------------------


def course(ones):
    """Return the course's check, which goes through the gradients one by one."""

    def refuses(pair, scale):
        arrays = arrays_of(pair.layer, scale)
        y, cache = pair.run([each.copy() for each in arrays])
        shape = np.shape(y)
        dout = np.ones(shape) if ones else np.random.default_rng(1).standard_normal(shape)
        y = np.copy(y)
        for i, found in enumerate(pair.gradients(dout.copy(), cache)):

            def output(_, i=i):
                return np.copy(pair.run([each if j == i else each.copy() for j, each in enumerate(arrays)])[0])

            numeric = eval_numerical_gradient_array(output, arrays[i], dout)
            difference = np.abs(found - numeric)  # it broadcasts, as the course's does
            size = np.maximum(1e-8, np.abs(found) + np.abs(numeric))
            if not ((difference / size < RELATIVE_ERROR) | (difference < NOISE * max(1.0, np.abs(y).max()))).all():
                return True
        return False

    return refuses


def torch_gradcheck(torch, fast):
    """Return torch's check of the pair as an operation with a gradient of its own."""

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, pair, *tensors):
            y, ctx.cache = pair.run([each.detach().numpy().copy() for each in tensors])
            ctx.pair = pair
            return torch.from_numpy(np.array(y, dtype=np.float64))

        @staticmethod
        def backward(ctx, dout):
            found = ctx.pair.gradients(dout.numpy().copy(), ctx.cache)
            return None, *(torch.from_numpy(np.array(each, dtype=np.float64)) for each in found)

    def refuses(pair, scale):
        tensors = [torch.from_numpy(each).requires_grad_() for each in arrays_of(pair.layer, scale)]
        return not torch.autograd.gradcheck(
            lambda *given: Wrapped.apply(pair, *given), tensors, fast_mode=fast, raise_exception=False
        )

    return refuses


def of_xhat():
    """Return by layer, pass and mistake whether `xhat check` finds it, and in which time."""
    if not FOUND.exists():
        return {}
    with FOUND.open(newline="") as file:
        return {
            (row["layer"], row["side"], row["fault"]): (int(row["found"]), float(row["seconds"]))
            for row in csv.DictReader(file)
        }


def checkers():
    """Return what is installed, by name, and what is left out."""
    found, missing = {}, []
    torch = _installed("torch")
    if torch is None:
        missing.append("torch is not installed: its gradcheck is left out.")
    else:
        torch.set_num_threads(1)
        found["gradcheck"] = torch_gradcheck(torch, fast=False)
        found["gradcheck, fast"] = torch_gradcheck(torch, fast=True)
    found["course"] = course(ones=False)
    found["course, dout = 1"] = course(ones=True)
    return found, missing


def _installed(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


# --- the contest ------------------------------------------------------------------------------------------------------


def judged(refuses, pair, scale):
    """Return whether a checker refuses a pair; code that raises is refused by whoever runs it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return bool(refuses(pair, scale))
        except Exception:
            return True


def contest(faults, short):
    """Return a row for every mistake, checker and scale, and for the right code of each layer (no side, no fault)."""
    found, missing = checkers()
    known = of_xhat()
    if not known:
        missing.append(f"{FOUND.name} is not there: {XHAT} is left out. Run benchmarks/check_faults.py --csv first.")
    rows = []
    for layer in faults.DICTIONARIES:
        if layer not in LAYERS:
            missing.append(f"{layer} is left out: it is not said here how it is called.")
            continue
        seen = [fault for fault in faults.faults_of(layer) if not fault.harmless]
        if short:
            seen = [f for side in ("forward", "backward") for f in [g for g in seen if g.side == side][:SHORT]]
        for fault in (None, *seen):
            pair = pair_of(layer, faults.source_of(layer, [fault] if fault else []))
            what = {"layer": layer, "side": fault.side if fault else "", "fault": fault.key if fault else ""}
            for name, refuses in found.items():
                for scale in SCALES:
                    start = time.perf_counter()
                    refused = judged(refuses, pair, scale)
                    rows.append({**what, "checker": name, "scale": f"{scale:g}", "refused": int(refused)})
                    rows[-1]["seconds"] = time.perf_counter() - start
            if tuple(what.values()) in known:  # xhat looks at the code, not at one scale of its inputs
                refused, seconds = known[tuple(what.values())]
                more = {"checker": XHAT, "refused": refused, "seconds": seconds}
                rows += [{**what, **more, "scale": f"{scale:g}"} for scale in SCALES]
    return rows, missing


def summary(rows, missing):
    """Return the table: of the mistakes in each pass of each layer, how many each checker finds."""
    names = list(dict.fromkeys(row["checker"] for row in rows))
    unusable = {
        (row["layer"], row["checker"], row["scale"]) for row in rows if not row["fault"] and int(row["refused"])
    }
    scales = [f"{scale:g}" for scale in SCALES]

    def count(chosen, name, scale):
        return sum(
            int(row["refused"])
            for row in chosen
            if row["checker"] == name and row["scale"] == scale and (row["layer"], name, scale) not in unusable
        )

    def cells(chosen, layer):
        for name in names:
            numbers = ["–" if (layer, name, scale) in unusable else str(count(chosen, name, scale)) for scale in scales]
            yield numbers[0] if name == XHAT else " · ".join(numbers)

    lines = [["mistakes in", "how many", *names], ["---", *["---:"] * (len(names) + 1)]]
    for side in ("backward", "forward"):
        sided = [row for row in rows if row["side"] == side]
        for layer in (*dict.fromkeys(row["layer"] for row in sided), None):
            chosen = sided if layer is None else [row for row in sided if row["layer"] == layer]
            what = f"{layer.replace('_', ' ')}, {side}" if layer else f"**all, {side}**"
            many = len({(row["layer"], row["fault"]) for row in chosen})
            lines.append([what, str(many), *cells(chosen, layer)])
    lines.append(["median time", "", *(_told([row["seconds"] for row in rows if row["checker"] == n]) for n in names)])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    others = [name for name in names if name != XHAT]
    caught = {(row["layer"], row["fault"]) for name in others for row in _found(rows, unusable, name)}
    backward = {(row["layer"], row["fault"]) for row in rows if row["side"] == "backward"}
    unseen = sorted(f"{layer.replace('_', ' ')}: `{fault}`" for layer, fault in backward - caught)
    said = [
        f"Two numbers stand for activations of standard deviation {scales[0]} · {scales[1]}. –: it refuses the right"
        " code of this layer too, so that its verdicts say nothing.",
        "In a backward pass, found by none of the others at either scale: " + ("; ".join(unseen) or "none") + ".",
        *missing,
    ]
    return "\n\n".join([table, *said])


def _told(seconds):
    found = float(np.median(seconds))
    return f"{1000 * found:.0f} ms" if found < 1 else f"{found:.1f} s"


def _found(rows, unusable, name):
    usable = [row for row in rows if row["checker"] == name and row["fault"]]
    return [r for r in usable if int(r["refused"]) and (r["layer"], name, r["scale"]) not in unusable]


def write_csv(path, rows):
    """Write a line for every mistake, and one for right code (no fault), with a 1 where it is refused."""
    lines = {}
    for row in rows:
        head = {name: row[name] for name in ("layer", "side", "fault")}
        line = lines.setdefault(tuple(head.values()), head)
        line[f"{row['checker']}, {row['scale']}"] = row["refused"]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(next(iter(lines.values()))))
        writer.writeheader()
        writer.writerows(lines.values())


def write_page(page, text):
    """Put the table between the marks of a page."""
    start, end = f"<!-- {MARK}: written by benchmarks/gradient_checkers.py -->", f"<!-- /{MARK} -->"
    before = page.read_text()
    if start not in before or end not in before:
        sys.exit(f"{page.name}: expected the marks {start} and {end}, got none. Put them where the table belongs.")
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{start}\n{text}\n{end}", before))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} mistakes per layer and pass")
    parser.add_argument(
        "--csv", type=Path, nargs="?", const=CSV, help=f"write a line for every mistake, into {CSV.relative_to(ROOT)}"
    )
    parser.add_argument("--markdown", action="store_true", help="write the table into docs/check.md")
    options = parser.parse_args()
    faults = _installed("xhat.verify.faults")
    if faults is None:
        sys.exit("xhat.verify.faults is not there: expected dictionaries of mistakes, got none.")
    rows, missing = contest(faults, options.short)
    text = summary(rows, missing)
    if options.csv:
        write_csv(options.csv, rows)
    if options.markdown:
        write_page(PAGE, text)
    print(text)
    # Right code must pass here, and mistakes must be found: a contest in which nobody can fail shows nothing.
    right = [row for row in rows if not row["fault"] and row["checker"] == "course" and row["scale"] == "1"]
    if any(int(row["refused"]) for row in right):
        sys.exit("The right code of the dictionaries does not pass central differences.")


if __name__ == "__main__":
    main()
