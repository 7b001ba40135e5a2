"""What `xhat check` says of every mistake of the dictionaries.

    python benchmarks/check_faults.py [--short] [--layers NAME...] [--csv [FILE]] [--markdown] [--repairs K]

Every mistake is written into a file of its own, and the file is checked. Counted is whether the mistake is

    found     a verdict is DISPROVED, or there is a finding
    named     the report says what the dictionary says of it (or of a mistake that leaves exactly the same), or it is a
              finding of its own kind (x changed in place), or the wrong gradient is explained term by term
    located   a line that the report gives is one that was changed
    repaired  a change was found after which all is right (for every K-th mistake)

Right code, and mistakes that change nothing, must raise no alarm. `--csv` writes a line for every mistake, after each
layer; layers that are not asked for keep their lines. `--markdown` writes the table of all of them into docs/check.md.
"""

import argparse
import csv
import difflib
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from xhat.verify import checking
from xhat.verify.faults import DICTIONARIES, Fault, diagnose, faults_of, source_of
from xhat.verify.report import FileReport

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "check.md"
CSV = ROOT / "benchmarks" / "results" / "check_faults.csv"
MARK = "mistakes of the dictionaries"

SHORT = 3  # mistakes per layer and pass
REPAIR_SECONDS = 5.0
UNNAMED = {"exception", "malformed", "not-decided"}  # findings that say that something is wrong, and not what
TERMS = re.compile(
    r"^(term missing: |term that should not be there: |wrong coefficient: |off by (a|the) factor "
    r"|too (small|large) by the factor |\w+ is 0 for all inputs|\w+ should be 0|the sign is wrong|shape \()",
    re.MULTILINE,
)


class Judged(NamedTuple):
    """What a check made of one mistake."""

    layer: str
    side: str  # "" for right code
    fault: str
    harmless: bool
    found: bool
    named: str  # "message", "finding", "terms", or "" where it is not
    located: bool
    repaired: bool | None  # None where no repair was looked for
    seconds: float  # without the search for a repair


@cache
def namesakes(layer: str, fault: Fault) -> tuple[str, ...]:
    """Return the messages of all single mistakes that cannot be told from this one by what they return."""
    matches = diagnose(layer, *DICTIONARIES[layer].functions((fault,)))
    return (fault.message, *(match.message for match in matches if match.whole and len(match.faults) == 1))


def changed_lines(layer: str, text: str) -> set[int]:
    """Return the lines of a text that right code does not have; beside what is left out, both neighbours."""
    compared = difflib.SequenceMatcher(None, source_of(layer).splitlines(), text.splitlines(), autojunk=False)
    lines: set[int] = set()
    for what, _, _, start, stop in compared.get_opcodes():
        if what != "equal":
            lines |= set(range(start + 1, stop + 1)) or {start, start + 1}
    return lines


def checked(text: str, repairs: float) -> FileReport:
    """Check a text as a file, with so many seconds for a repair."""
    before = checking._REPAIR_SECONDS, checking._EXPLANATION_SECONDS
    checking._REPAIR_SECONDS, checking._EXPLANATION_SECONDS = repairs, 60.0  # what is said depends on no machine
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            path = Path(folder) / "layers.py"
            path.write_text(text)
            return checking.check_file(path)
    finally:
        checking._REPAIR_SECONDS, checking._EXPLANATION_SECONDS = before


def judged(layer: str, fault: Fault | None, *, repair: bool = False) -> Judged:
    """Check right code (None), or a file with one mistake."""
    text = source_of(layer, [fault] if fault else [])
    start = time.perf_counter()
    report = checked(text, 0.0)
    seconds = time.perf_counter() - start
    repaired = None
    if repair:
        again = checked(text, REPAIR_SECONDS)
        repaired = any(one.repair for pair in again.pairs for one in (*pair.verdicts, *pair.findings))
    wrong = [verdict for pair in report.pairs for verdict in pair.verdicts if verdict.wrong]
    findings = [finding for pair in report.pairs for finding in pair.findings]
    said = [item.message for item in (*wrong, *findings)]
    named = ""
    if fault is not None:
        if any(message in text for message in namesakes(layer, fault) for text in said):
            named = "message"
        elif any(finding.kind not in UNNAMED for finding in findings):
            named = "finding"
        elif any(TERMS.search(text) for text in said):
            named = "terms"
    return Judged(
        layer,
        fault.side if fault else "",
        fault.key if fault else "",
        fault is not None and fault.harmless,
        not report.pairs or bool(wrong or findings),
        named,
        not changed_lines(layer, text).isdisjoint(item.line for item in (*wrong, *findings)),
        repaired,
        seconds,
    )


def sample(layer: str, short: bool) -> Iterable[Fault | None]:
    """Return right code and the mistakes of a layer, or some of each pass."""
    faults = faults_of(layer)
    if short:
        faults = [f for side in ("forward", "backward") for f in [g for g in faults if g.side == side][:SHORT]]
    return (None, *faults)


def measured(layers: Iterable[str], short: bool, every: int) -> Iterator[Judged]:
    """Judge the mistakes of some layers, and look for a repair of every so many."""
    for layer in layers:
        judged(layer, None)  # what is made once for each layer is not counted
        for number, fault in enumerate(sample(layer, short)):
            yield judged(layer, fault, repair=bool(fault and every and number % every == 1))


def summary(rows: list[Judged]) -> str:
    """Return the table, and what was not found or not named."""
    lines = [["layer", "mistakes", "found", "named", "line right", "repaired", "seconds each"]]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    for layer in (*dict.fromkeys(row.layer for row in rows), None):
        those = [row for row in rows if layer in (None, row.layer)]
        wrong = [row for row in those if row.fault and not row.harmless]
        tried = [row for row in wrong if row.repaired is not None]
        lines.append(
            [
                layer.replace("_", " ") if layer else "**all**",
                str(len(wrong)),
                str(sum(row.found for row in wrong)),
                str(sum(row.found and bool(row.named) for row in wrong)),
                str(sum(row.found and row.located for row in wrong)),
                f"{sum(bool(row.repaired) for row in tried)} of {len(tried)}" if tried else "–",
                f"{float(np.median([row.seconds for row in those])):.2f}",
            ]
        )
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    wrong = [row for row in rows if row.fault and not row.harmless]
    alarms = [row for row in rows if (row.harmless or not row.fault) and row.found]
    how = [f"{sum(row.found and row.named == word for row in wrong)} {said}" for word, said in HOW.items()]
    quiet = sum(row.harmless for row in rows)
    told = [
        f"Named: {', '.join(how)}.",
        f"Not found: {_listed(row for row in wrong if not row.found)}.",
        f"Found and not named: {_listed(row for row in wrong if row.found and not row.named)}.",
        f"Right code and the {quiet} mistakes that change nothing: {_listed(alarms) if alarms else 'no alarm'}.",
    ]
    return "\n\n".join([table, *told])


HOW = {
    "message": "with the dictionary's own sentence",
    "finding": "by a finding of their kind",
    "terms": "term by term",
}


def _listed(rows: Iterable[Judged]) -> str:
    names = [f"{row.layer.replace('_', ' ')}, {row.side}: `{row.fault}`" for row in rows]
    return "; ".join(names) or "none"


def write_csv(path: Path, rows: list[Judged]) -> None:
    """Write a line for every mistake."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Judged._fields)
        writer.writerows(
            [*(int(v) if isinstance(v, bool) else v for v in row[:-1]), f"{row.seconds:.3f}"] for row in rows
        )


def read_csv(path: Path) -> list[Judged]:
    """Return what was written."""
    if not path.exists():
        return []

    def flag(text: str) -> bool | None:
        return bool(int(text)) if text else None

    with path.open(newline="") as file:
        return [
            Judged(
                *(line["layer"], line["side"], line["fault"], line["harmless"] == "1", line["found"] == "1"),
                *(line["named"], line["located"] == "1", flag(line["repaired"]), float(line["seconds"])),
            )
            for line in csv.DictReader(file)
        ]


def write_page(page: Path, text: str) -> None:
    """Put the table between the marks of a page."""
    start, end = f"<!-- {MARK}: written by benchmarks/check_faults.py -->", f"<!-- /{MARK} -->"
    before = page.read_text()
    if start not in before or end not in before:
        sys.exit(f"{page.name}: expected the marks {start} and {end}, got none. Put them where the table belongs.")
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{start}\n{text}\n{end}", before))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} mistakes per layer and pass")
    parser.add_argument("--layers", nargs="*", choices=list(DICTIONARIES), default=list(DICTIONARIES))
    parser.add_argument("--repairs", type=int, default=0, metavar="K", help="look for a repair of every K-th mistake")
    parser.add_argument(
        "--csv", type=Path, nargs="?", const=CSV, help=f"write a line for every mistake, into {CSV.relative_to(ROOT)}"
    )
    parser.add_argument("--markdown", action="store_true", help="write the table into docs/check.md")
    options = parser.parse_args()
    rows = [row for row in read_csv(options.csv) if row.layer not in options.layers] if options.csv else []
    order = list(DICTIONARIES)
    for layer in options.layers:
        rows += measured([layer], options.short, options.repairs)
        rows.sort(key=lambda row: order.index(row.layer))
        if options.csv:
            write_csv(options.csv, rows)
        print(layer, file=sys.stderr, flush=True)
    text = summary(rows)
    if options.markdown:
        write_page(PAGE, text)
    print(text)
    if any(row.found for row in rows if row.harmless or not row.fault):
        sys.exit("There is an alarm for code that is right.")


if __name__ == "__main__":
    main()
