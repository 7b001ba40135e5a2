"""Write docs/proofs.md: what is proved of the library's own layers, gradient by gradient.

`python -m tests.verify.proofs_page`. A test compares the page with what it found itself, so that it says no more than holds.
"""

from collections.abc import Sequence
from pathlib import Path

from xhat.verify.library import Row, prove_layers

PAGE = Path(__file__).parent.parent.parent / "docs" / "proofs.md"

HEAD = """\
# What is proved of the layers

`xhat prove` shows for every layer and every loss that its backward pass is the gradient of its forward pass. Two engines that
share no arithmetic judge each gradient:

- **symbols**: both passes run once on symbols that stand for every size and every real input. PROVED: the true gradient,
  derived from the forward pass, and what the backward pass returns are the same formula.
- **exact numbers**: both passes run without rounding at random points of large finite fields, at two sizes. EXACT: the
  identity `<u, J v> = <backward(u), v>` held at all of them; a wrong gradient would pass with a probability below 2^-64 at
  each size. `xhat prove` computes it anew.

N, C, H stand for any length; `G*K` is an axis of G groups of K channels.

"""

FOOT = """
Convolution and max pooling go through windows in a Python loop, and virtual batches through parts: how often depends on the
sizes, so the symbols, which stand for all sizes at once, do not decide. Exact numbers do, at two sizes.

## What it means, and what not

- **It is about the references.** `reference_forward` and `reference_backward` of each layer are what runs: the very
  functions, no copies. The kernels and the checked functions are compared with them by the contract tests, in every type.
- **It is about real numbers.** Rounding is not in it; how many digits are right is what the contract tests measure.
- **The gradient is that of the forward pass.** Whether the forward pass is the function that its name promises, numbers
  worked out by hand show, at least one per layer, and other libraries ([peers.md](peers.md)).
- **Almost everywhere.** What is compared is taken to be not equal: no entry of ReLU is exactly 0, a maximum is taken at one
  entry, no margin of the hinge loss is exactly 0. There these functions have no derivative; what is returned then is
  documented by each. Likewise `var + eps > 0`, no weight is exactly 0, and the weights do not add up to 0; the contract
  tests look at an `eps` of 0, at channels that do not vary, and at weights of 0.
- **What is constant for the gradient is given**: running statistics, weights, the mask of dropout (any mask on symbols, one
  that is drawn on exact numbers), the targets of a loss, and r and d of batch renormalization, which its inventor holds fixed.
- **Settings are those written**: a rate of 0.4 is read as 2/5, and a window or a channel axis as it stands. `eps` is any
  positive number.
- **The exponential** of the softmax is exact in a second field; that a wrong gradient is as unlikely to pass as elsewhere
  rests on a conjecture. On symbols it needs none.
- **It trusts** Python, NumPy's handling of objects, and `xhat.verify`: no proof kernel stands behind it. `make test` seeds
  faults in the references, and both engines must see them.

This page is written by `python -m tests.verify.proofs_page`.
"""


def table(rows: Sequence[Row]) -> str:
    """Return a line per layer and case, with the gradients on which both engines say the same together."""
    lines = ["| layer | case | gradients | symbols | exact numbers |", "|---|---|---|---|---|"]
    words: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        words.setdefault(row.gradient, {})[row.engine] = str(row.verdict.word)
    together: dict[tuple[str, str, str, str], list[str]] = {}
    for (layer, case, what), said in words.items():
        together.setdefault((layer, case, said["symbols"], said["exact numbers"]), []).append(what)
    for (layer, case, symbols, exact), gradients in together.items():
        lines.append(f"| {layer} | {case} | {', '.join(gradients)} | {symbols} | {exact} |")
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Row]) -> str:
    """Return the text of the page."""
    return HEAD + table(rows) + FOOT


if __name__ == "__main__":
    PAGE.write_text(page(list(prove_layers())))
