"""How many digits each normalization keeps, beside torch, over the whole grid of hard data.

    python benchmarks/accuracy.py [--short] [--csv FILE]      measure
    python benchmarks/accuracy.py --page                      write docs/accuracy.md and docs/accuracy.png

The data and their truth, in long double, are those of tests/kernels/grid.py; torch gets the same numbers, and runs with
one thread. `--page` measures nothing: it takes benchmarks/results/accuracy.csv as `--csv` left it.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # where tests/ is

import ml_dtypes
import numpy as np
from tests.kernels import grid
from tests.kernels.grid import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, NORMS

import xhat
from xhat import kernels

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
PICTURE = ROOT / "docs" / "accuracy.png"
CSV = ROOT / "benchmarks" / "results" / "accuracy.csv"
SHORT = ("N(0, 1), eps 1e-05", "mean 1e+01, eps 1e-05", "outlier 1e+04, eps 0", "two numbers, a small gap")
QUANTITIES = ("y", "dx", "dgamma", "var")
RAISES, BROKEN = "raises", "NaN"


def parameters(call):
    """Round gamma and beta to what every type has, so that all libraries can be given the same."""
    gamma, beta = (p.astype(ml_dtypes.bfloat16).astype(np.float64) for p in (call.gamma, call.beta))
    return call._replace(gamma=gamma, beta=beta)


def torch_run(call):
    """Do the same with torch; of the statistics it tells only batch norm's variance."""
    case, norm, dy, gamma, beta = call
    functional = torch.nn.functional
    shape, last = case.x.shape, norm.name == "batch channels-last"
    kind = getattr(torch, case.x.dtype.name)

    def tensor(values):
        if values.dtype == BFLOAT16:
            values = values.astype(np.float32)
        made = torch.tensor(values).to(kind)
        return made.permute(0, 3, 1, 2) if last and made.ndim == 4 else made

    def array(tensor):
        tensor = tensor.permute(0, 2, 3, 1) if last and tensor.ndim == 4 else tensor
        wide = tensor.detach().contiguous().to(torch.float64 if case.x.dtype == FLOAT64 else torch.float32)
        return wide.numpy()

    x = tensor(norm.laid(case.x)).requires_grad_()
    g, b = tensor(gamma).requires_grad_(), tensor(beta)
    var = None
    match norm.name:
        case "layer":
            y = functional.layer_norm(x, [shape[1]], g, b, case.eps)
        case "RMS":
            y = functional.rms_norm(x, [shape[1]], g, case.eps)
        case "group":
            y = functional.group_norm(x, norm.split(*shape)[1], g, b, case.eps)
        case "instance":
            y = functional.instance_norm(x, weight=g, bias=b, eps=case.eps)
        case _:
            var = torch.ones(shape[0], dtype=kind)
            y = functional.batch_norm(x, torch.zeros_like(var), var, g, b, True, 1.0, case.eps)
    y.backward(tensor(norm.laid(dy)))
    nothing = np.zeros(shape[0])
    biased = nothing if var is None else array(var) * ((shape[1] - 1) / shape[1])
    return grid.Result(
        norm.lines(array(y), shape),
        norm.lines(array(x.grad), shape),
        array(g.grad),
        beta,
        nothing,
        nothing,
        biased,
        nothing,
    )


def measured(case, norm, table):
    """Return a line of the table for each library."""
    call = parameters(grid.call_of(case, norm))
    true = grid.truth(call)
    libraries = {"xhat": grid.run, "torch": torch_run} if torch else {"xhat": grid.run}
    for library, run in libraries.items():
        line = {"table": table, "type": case.x.dtype.name, "case": case.name, "norm": norm.name, "library": library}
        try:
            with np.errstate(all="ignore"):
                result = run(call)
                errors = grid.errors(call, result, true)
        except (RuntimeError, ValueError):
            yield line | dict.fromkeys(QUANTITIES, RAISES)
            continue
        for name in QUANTITIES:
            broken = not np.isfinite(getattr(result, name).astype(np.float64)).all()
            line[name] = BROKEN if broken else f"{getattr(errors, name):.2e}"
        if case.extreme or (library == "torch" and not norm.name.startswith("batch")):
            line["var"] = ""
        yield line


def grid_cases(short) -> Iterator[grid.Case]:
    for dtype in grid.DTYPES:
        yield from (case for case in grid.cases(dtype) if not short or case.name in SHORT)
    if not short:
        for which in grid.SCALES_BEYOND:
            yield from grid.extreme_cases(which)


def as_images(count, height, width):
    """Return the layouts of batch norm for images of one size."""
    batch, nchw, last = NORMS[:3]
    return (
        batch,
        nchw._replace(split=lambda lines, length: (count, lines, height, width)),
        last._replace(split=lambda lines, length: (count, height, width, lines)),
    )


def long_cases(short) -> Iterator[tuple[grid.Case, tuple[grid.Norm, ...]]]:
    """Yield sums over many numbers, and images: the layouts in which some add up in float32."""
    rng = np.random.default_rng(40)
    batch, layer, instance = (norm for norm in NORMS if norm.name in ("batch", "layer", "instance"))
    counts = (1000, 10_000) if short else (1_000_000, 10_000_000)

    def standard(*shape):
        return rng.standard_normal(shape, np.float32)

    for count, norms in zip(counts, ((batch, layer, instance), (batch, layer)), strict=True):
        for mean in (0, 10, 1000):
            yield grid.Case(f"{count:,} numbers, mean {mean}, std 1", mean + standard(2, count), 1e-5), norms
    count, side = (2, 14) if short else (32, 112)
    x = np.maximum(standard(8, count * side**2), 0)
    yield grid.Case(f"ReLU activations, {count}x8x{side}x{side}", x, 1e-5), as_images(count, side, side)
    count, side = (2, 28) if short else (32, 224)
    images = as_images(count, side, side)
    shape = 3, count * side**2
    where = f"{count}x3x{side}x{side}"
    yield grid.Case(f"pixels from 0 to 255, {where}", rng.integers(0, 256, shape).astype(np.float32), 1e-5), images
    yield grid.Case(f"pixels 250 ± 3, {where}", np.clip(np.rint(250 + 3 * standard(*shape)), 0, 255), 1e-5), images
    yield grid.Case(f"temperatures 300 ± 1, {where}", 300 + standard(*shape), 1e-5), images


def measure(short):
    """Return all lines, and say what is measured."""
    if torch:
        torch.set_num_threads(1)
    facts = {
        "xhat version": f"{xhat.__version__} ({kernels.variant()})",
        "torch version": torch.__version__ if torch else "not installed",
        "NumPy version": np.__version__,
    }
    for table, jobs in (("grid", ((case, NORMS) for case in grid_cases(short))), ("long", long_cases(short))):
        for case, norms in jobs:
            for line in (line for norm in norms for line in measured(case, norm, table)):
                print("  ".join(line.values()), flush=True)
                yield line | facts


def target(line, name):
    """Return what is allowed of a quantity."""
    return getattr(grid.TARGETS[np.dtype(getattr(ml_dtypes, line["type"], line["type"]))], name)


def missed(line, name):
    """Tell whether an error is beyond what xhat promises for the type."""
    return line[name] == RAISES or number(line[name]) > target(line, name)


def digit_lost(line, name):
    """Tell whether an error is more than ten times the target of dx."""
    return line[name] != RAISES and number(line[name]) > 10 * target(line, "dx")


def number(text):
    return np.inf if text in (RAISES, BROKEN) else float(text or 0)


def shown(lines, name):
    """Return the largest error of some lines, in bold where at least a digit is lost."""
    worst = max(lines, key=lambda line: number(line[name]), default=None)
    if worst is None or not worst[name]:
        return "–"
    if worst[name] in (RAISES, BROKEN):
        text = worst[name]
    else:
        digits, _, exponent = f"{float(worst[name]):.1e}".partition("e")
        text = f"{digits}e{int(exponent)}" if int(exponent) else digits
    return f"**{text}**" if digit_lost(worst, name) else text


def table(head, rows):
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def grid_table(lines):
    """One row per case: xhat's worst norm, then each of torch's; y and dx in one cell."""
    names = [norm.name for norm in NORMS]
    rows = []
    for case in dict.fromkeys(line["case"] for line in lines):
        here = [line for line in lines if line["case"] == case]
        groups = [[line for line in here if line["library"] == "xhat"]]
        groups += [[line for line in here if line["library"] == "torch" and line["norm"] == name] for name in names]
        cells = []
        for group in groups:
            y, dx = shown(group, "y"), shown(group, "dx")
            cells.append(y if y == dx and y in (RAISES, "–") else f"{y} · {dx}")
        rows.append([case, *cells])
    return table(["y · dx", "**xhat**, worst", *(f"torch {name}" for name in names)], rows)


def long_table(lines):
    rows = []
    for case, norm in dict.fromkeys((line["case"], line["norm"]) for line in lines):
        row = [f"{case}; {norm}"]
        for library in ("xhat", "torch"):
            here = [line for line in lines if (line["case"], line["norm"], line["library"]) == (case, norm, library)]
            row += [shown(here, name) for name in QUANTITIES]
        rows.append(row)
    return table(["", *(f"{library} {name}" for library in ("**xhat**", "torch") for name in QUANTITIES)], rows)


def tables(lines: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return everything that the page says in numbers, by its mark."""
    lines = list(lines)
    said = {}
    for dtype in (FLOAT32, FLOAT64, FLOAT16, BFLOAT16):
        said[dtype.name] = grid_table([x for x in lines if x["table"] == "grid" and x["type"] == dtype.name])
    said["long"] = long_table([x for x in lines if x["table"] == "long"])
    counts = []
    for library in ("xhat", "torch"):
        mine = [line for line in lines if line["library"] == library]
        refused = [line for line in mine if line["y"] == RAISES]
        done = [line for line in mine if line["y"] != RAISES]
        beyond = sum(missed(line, "y") or missed(line, "dx") for line in done)
        far = sum(digit_lost(line, "y") or digit_lost(line, "dx") for line in done)
        counts.append(
            f"{library} is beyond a target of y or dx in {beyond:,} of {len(mine):,} cases, by a digit or more in"
            f" {far:,}, and refuses {len(refused):,}"
        )
    facts = lines[0]
    said["summary"] = (
        f"{'; '.join(counts)} (a case is one set of data in one normalization). Measured with xhat"
        f" {facts['xhat version']}, torch {facts['torch version']}, NumPy {facts['NumPy version']}."
    )
    return said


def draw(lines):
    """Draw both errors over |mean| / std."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    pattern = re.compile(r"mean (\S+), eps 1e-05")
    chosen = [
        (float(match[1]), line)
        for line in lines
        if line["table"] == "grid" and line["type"] == "float32" and (match := pattern.fullmatch(line["case"]))
    ]
    means = sorted({mean for mean, _ in chosen})
    for pane, name, title in zip(panes, ("y", "dx"), ("forward: y", "backward: dx"), strict=True):
        for library in ("torch", "xhat"):
            for i, norm in enumerate(NORMS):
                errors = {m: number(x[name]) for m, x in chosen if x["norm"] == norm.name and x["library"] == library}
                if not errors:
                    continue
                if library == "torch":  # two of its lines coincide: the first is drawn broad, below the other
                    style = {"color": f"C{i}", "ls": "--", "lw": 1.2 if i else 5, "alpha": 1 if i else 0.4}
                    label = f"torch {norm.name}"
                else:
                    style, label = {"color": "black", "lw": 1.2}, None if i else "xhat, all seven"
                pane.plot(means, [errors[m] for m in means], marker="o", markersize=3.5, label=label, **style)
        pane.axhline(getattr(grid.TARGETS[FLOAT32], name), color="grey", lw=1, ls=":", label="xhat's target")
        pane.set(xscale="log", yscale="log", xlabel="|mean| / std", title=title)
        pane.grid(alpha=0.25)
    panes[0].set_ylabel("error, as a share of the largest")
    panes[1].legend(fontsize=8, loc="upper left")
    figure.savefig(PICTURE, dpi=130, metadata={"Software": None})


def marks(name):
    return f"<!-- {name}: written by benchmarks/accuracy.py -->", f"<!-- /{name} -->"


def read() -> list[dict[str, str]]:
    """Return the lines of the last whole run."""
    with open(CSV, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_page():
    lines = read()
    page = PAGE.read_text(encoding="utf-8")
    for name, text in tables(lines).items():
        start, end = marks(name)
        if start not in page or end not in page:
            sys.exit(f"{PAGE.name}: expected the marks {start} and {end}, got none. Put them where the table belongs.")
        before, _, rest = page.partition(start)
        page = f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(page, encoding="utf-8")
    draw(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="a few cases, in seconds: does it run at all?")
    parser.add_argument("--csv", metavar="FILE", help="write all errors there")
    parser.add_argument("--page", action="store_true", help="write the page from the last whole run")
    options = parser.parse_args()
    if options.page:
        write_page()
        return
    lines = list(measure(options.short))
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, lines[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
    wrong = [line for line in lines if line["library"] == "xhat" and any(missed(line, name) for name in QUANTITIES)]
    for line in wrong:
        print("beyond the target:", *(line[name] for name in ("type", "case", "norm", *QUANTITIES)))
    if wrong:
        sys.exit(f"xhat misses its targets in {len(wrong)} of {len(lines)} cases.")


if __name__ == "__main__":
    try:
        import torch
    except ImportError:
        torch = None
    main()
