"""Write docs/peers.md: which cases of the suites of ONNX and torch were run, and which cannot be said in xhat's terms.

`python -m tests.peers.report`. The test of the same cases compares the page with what it found itself, so that no case
leaves the suites unseen.
"""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tests.peers import onnx_nodes, opinfo
from tests.peers.suite import Outcome

PAGE = Path(__file__).parent.parent.parent / "docs" / "peers.md"

HEAD = """\
# The suites of others

`make test-all` runs the cases that ONNX and torch test their own operators with. An adapter calls xhat's public functions as
the operator would be called; it moves axes and folds constants, and holds no mathematics. What a case asks for and xhat does
not offer is listed below with the reason, and a test holds this page to what was run.

This page is written by `python -m tests.peers.report`; no number in it is typed by hand.
"""

ONNX_HEAD = """
## ONNX {version}: backend cases of single nodes

Forward only, in float32. Every output lies within ONNX's own tolerance (`rtol` 1e-3, `atol` 1e-7) **and** within 8 eps of the
output's largest entry. The masks of dropout are drawn again by ONNX's rule; a logarithm of a probability is minus the
loss if that class were the label.
"""

TORCH_HEAD = """
## torch {version}: OpInfo samples

Each sample in float64 and in float32, forward and backward with a random gradient of the output, against torch in float64 on
the same numbers: within 8 eps of the largest entry. Batch norm's running statistics are compared too
(`unbiased=True`); those of instance norm, which xhat does not keep, are not. Where a norm has several outputs, the
gradient is that of the first.
"""

ERROR_HEAD = """
## torch {version}: inputs that torch refuses

They must be refused by xhat too, by a TypeError or ValueError in its own form.
"""


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """One row per operator, and a last one for all."""
    lines = ["", "| operator | cases | expressible | passed | not expressible |", "|---|---:|---:|---:|---|"]
    for name in [*dict.fromkeys(sorted(o.operator for o in outcomes)), None]:
        mine = [o for o in outcomes if name in (o.operator, None)]
        expressible = [o for o in mine if not o.lacking]
        passed = sum(not o.wrong for o in expressible)
        reasons = Counter(o.lacking for o in mine if o.lacking)
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) if name else ""
        label = f"`{name}`" if name else "**all**"
        lines.append(
            f"| {label} | {len(mine)} | {len(expressible)} | {passed} | {why or sum(reasons.values()) or ''} |"
        )
    return lines


def listing(outcomes: Sequence[Outcome]) -> list[str]:
    """What is not expressible, by reason and name; the numbers of samples of one operator are drawn together."""
    lines = ["", "Not expressible:", ""]
    lacking: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.lacking:
            lacking.setdefault(outcome.lacking, []).append(outcome.case)
    for reason, cases in sorted(lacking.items()):
        lines.append(f"- {reason}: {', '.join(shortened(cases))}")
    return lines if lacking else []


def shortened(cases: Sequence[str]) -> list[str]:
    """Names as they are; `name 1`, `name 2`, `name 3` as `name` 1–3."""
    numbered: dict[str, list[int]] = {}
    for case in cases:
        name, _, number = case.rpartition(" ")
        if not number.isdigit():
            return [f"`{case}`" for case in cases]
        numbered.setdefault(name, []).append(int(number))
    return [f"`{name}` {' '.join(runs(numbers))}" for name, numbers in numbered.items()]


def runs(numbers: Sequence[int]) -> list[str]:
    """Write 1, 2, 3, 7 as 1–3, 7; and 1, 3, 5 with their stride, as 1–5/2."""
    parts, i = [], 0
    while i < len(numbers):
        step = numbers[i + 1] - numbers[i] if i + 1 < len(numbers) else 1
        j = i
        while j + 1 < len(numbers) and numbers[j + 1] - numbers[j] == step:
            j += 1
        if j - i < 2:
            parts.append(f"{numbers[i]}")
            i += 1
        else:
            parts.append(f"{numbers[i]}–{numbers[j]}" + (f"/{step}" if step > 1 else ""))
            i = j + 1
    return parts


def page(onnx: Sequence[Outcome], torch: Sequence[Outcome], errors: Sequence[Outcome]) -> str:
    """Return the page. `torch` has each sample once for each type."""
    lines = [HEAD, ONNX_HEAD.format(version=version("onnx")), *table(onnx), *listing(onnx)]
    torch_version = version("torch").partition("+")[0]
    once = list({o.case: o for o in torch}.values())
    lines += [TORCH_HEAD.format(version=torch_version), *table(torch), *listing(once)]
    lines += [ERROR_HEAD.format(version=torch_version), *table(errors), *listing(errors)]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def run() -> tuple[list[Outcome], list[Outcome], list[Outcome]]:
    """Run all cases."""
    torch = [*opinfo.sample_outcomes(np.float64), *opinfo.sample_outcomes(np.float32)]
    return list(onnx_nodes.outcomes()), torch, list(opinfo.error_outcomes())


if __name__ == "__main__":
    PAGE.write_text(page(*run()))
