"""Write the numbers and the picture of the README from runs that exist.

    python benchmarks/readme.py        (make readme runs what it needs first)

Takes `runs/demo`, `runs/readme-digits` and `runs/readme-fashion-mnist` as `xhat train` left them (those that exist),
judges the saved networks once more on the test data, and takes `benchmarks/results/norms.csv` as `benchmarks/norms.py`
left it. Writes between the marks in README.md, and docs/curves.png.
"""

import csv
import platform
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

import xhat
from xhat import datasets

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
NORMS = ROOT / "benchmarks" / "results" / "norms.csv"


def table(head, rows):
    lines = [head, ["---" if i == 0 else "---:" for i in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def trained():
    """One row per network in the run folders: the score is computed anew, the seconds are from the run."""
    rows = []
    for folder in (ROOT / "runs" / name for name in ("demo", "readme-digits", "readme-fashion-mnist")):
        if not folder.exists():
            continue
        with open(folder / "history.csv", newline="") as file:
            seconds = defaultdict(float)
            for line in csv.DictReader(file):
                seconds[line["network"]] += float(line["seconds"])
        models = [folder / "model.safetensors", *folder.glob("model-*.safetensors")]
        for label, path in zip(seconds, models, strict=True):
            net = xhat.load(path)
            data = datasets.load(net.notes["data"])
            score = net.evaluate(data.x_test, data.y_test).score
            words = net.notes["command"].split()
            optimizer, rate, epochs = (
                words[words.index(f"--{o}") + 1] for o in ("optimizer", "learning-rate", "epochs")
            )
            settings = f"{optimizer}, learning rate {rate}, {epochs} epochs"
            rows.append([net.notes["data"], settings, label, f"{100 * score:.1f} %", f"{seconds[label]:.1f}"])
    text = table(["data", "settings", "network", "test accuracy", "seconds of training"], rows)
    return f"{text}\n\nOn {cpu()}. `make readme` trains them all."


def cpu():
    said = Path("/proc/cpuinfo")
    lines = said.read_text().splitlines() if said.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models) or '?'} cores of {models[0] if models else platform.processor()}"


def norms():
    """Ratios to xhat's time, one row per contest; both thread counts beside each other."""
    with open(NORMS, newline="") as file:
        lines = list(csv.DictReader(file))
    ratio = {
        (x["norm"], x["direction"], x["shape"], x["threads"], x["contender"]): float(x["of xhat's time"]) for x in lines
    }
    contests = list(dict.fromkeys((x["norm"], x["direction"], x["shape"]) for x in lines))
    threads = list(dict.fromkeys(x["threads"] for x in lines))
    contenders = [c for c in ("torch", "torch out=", "numpy", "copy") if any(key[4] == c for key in ratio)]
    rows = []
    for norm, direction, shape in contests:
        cells = [
            " · ".join(f"{ratio.get((norm, direction, shape, t, c), np.nan):.2f}" for t in threads) for c in contenders
        ]
        cells = ["–" if "nan" in cell else cell for cell in cells]
        rows.append([f"{norm} norm, {direction}", shape.replace("x", "×"), *cells])
    facts = lines[0]
    means = {c: np.exp(np.mean([np.log(v) for k, v in ratio.items() if k[4] == c])) for c in contenders if c != "copy"}
    said = ", ".join(f"{name} {value:.2f}" for name, value in means.items())
    return (
        f"Time of others, as a multiple of xhat's ({' · '.join(threads)} threads; float32; medians of one run in which"
        " all take turns and every result was checked first). Below 1 the other is faster:\n\n"
        f"{table(['', 'shape', *contenders], rows)}\n\n"
        f"Geometric means: {said}. {facts['cpu'].replace(' x ', ', cores: ')}; torch {facts['torch']},"
        f" NumPy {facts['numpy']}, xhat {facts['xhat']} ({facts['variant']}). xhat writes into memory that it is given;"
        " torch allocates its results (`torch`) or is given memory too (`torch out=`); `copy` is NumPy's copy of one"
        " array of that size. Most of the large factors against plain torch is the price of fresh memory pages, not of"
        " arithmetic. `make bench ARGS=...` measures on your machine."
    )


def write(mark, text):
    before = README.read_text()
    start, end = f"<!-- {mark}: written by benchmarks/readme.py -->", f"<!-- /{mark} -->"
    if start not in before or end not in before:
        sys.exit(f"README.md: expected the marks {start} and {end}, got none. Put them where the {mark} table belongs.")
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    README.write_text(pattern.sub(lambda _: f"{start}\n{text}\n{end}", before))


if __name__ == "__main__":
    write("demo", trained())
    shutil.copyfile(ROOT / "runs" / "demo" / "curves.png", ROOT / "docs" / "curves.png")
    if NORMS.exists():
        write("norms", norms())
