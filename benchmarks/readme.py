"""Write the numbers and the picture of the README from runs that exist.

    python benchmarks/readme.py        (make readme runs what it needs first)

Takes `runs/demo`, `runs/readme-digits` and `runs/readme-fashion-mnist` as `xhat train` left them (those that exist),
judges the saved networks once more on the test data, and takes `benchmarks/results/norms.csv` as `xhat bench --csv`
left it. Writes between the marks in README.md, and docs/curves.png.
"""

import csv
import platform
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import xhat
from xhat import datasets
from xhat.bench import tables

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
    """Ratios to xhat's time, geometric means over the sizes, all numbers of threads beside each other."""
    rows, facts = tables.read_csv(NORMS)
    if any(map(tables.is_wrong, rows)):
        sys.exit(f"{NORMS}: expected right results, got wrong ones. Look into it before you publish.")
    threads = list(dict.fromkeys(row.threads for row in rows))
    contests = {count: tables.by_contest(row for row in rows if row.threads == count) for count in threads}
    cases = list(dict.fromkeys((norm, direction) for found in contests.values() for norm, direction, _ in found))
    contenders = tables.contenders(rows)

    def per_threads(cell):
        texts = [cell(contests[count]) for count in threads]
        return "–" if all(text == "–" for text in texts) else " · ".join(texts)

    def mean(case, name):
        def cell(found):
            there = [x[name].ratio for key, x in found.items() if key[:2] == case and name in x]
            return tables.multiple(tables.geometric_mean(there)) if there else "–"

        return cell

    def share(case):
        def cell(found):
            largest = max(key for key in found if key[:2] == case)
            return f"{100 * found[largest]['xhat out='].share:.0f} %"

        return cell

    body = [
        [f"{case[0]}, {case[1]}", *(per_threads(mean(case, name)) for name in contenders), per_threads(share(case))]
        for case in cases
    ]
    means = tables.means(rows)
    summed = [
        [
            name,
            *(" · ".join(tables.multiple(getattr(m, what)) for m in of) for what in ("mean", "worst")),
            ", ".join(dict.fromkeys(m.where for m in of)),
            f"{max(m.ulp for m in of):.3g}",
        ]
        for name in contenders
        if (of := [m for m in means if m.contender == name])
    ]
    own = max(row.ulp for row in tables.timed(rows) if row.contender == "xhat" and row.direction != "overhead")
    sizes = sorted({row.size for row in rows if row.direction != "overhead"})
    calls = [1e3 * row.milliseconds for row in rows if row.direction == "overhead" and row.contender == "xhat"]
    return (
        f"Time of others as a multiple of xhat's ({' · '.join(map(str, threads))} threads; float32; geometric means"
        f" over arrays of {', '.join(map(tables.size_text, sizes))}B; every result was checked first, then all took"
        " turns). Below 1 the other is faster:\n\n"
        f"{table(['', *contenders, f'xhat: share of a copy, {tables.size_text(sizes[-1])}B'], body)}\n\n"
        f"{table(['', 'mean', 'worst case', 'which', 'largest error, ULP'], summed)}\n\n"
        f"xhat's largest error is {own:.2f} ULP of the largest value; its call costs {min(calls):.1f} µs. `huge pages`:"
        " with `THP_MEM_ALLOC_ENABLE=1`, without which much of torch's time on large arrays is the price of fresh"
        f" memory. {facts['cpu'].replace(' x ', ', cores: ')}; torch {facts['torch']}, JAX {facts['jax']}, ONNX Runtime"
        f" {facts['onnxruntime']}, NumPy {facts['numpy']}, xhat {facts['xhat']} ({facts['variant']}). `xhat bench`"
        " measures on your machine; [docs/benchmarks.md](docs/benchmarks.md) says how."
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
