"""`xhat prove`: the gradients of this library's layers proved, or a formula in plain text."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from xhat.cli.console import Refusal, errors, refusing, say, show
from xhat.verify.report import Level, Verdict

_COLUMNS = ("layer", "case", "what", "engine", "verdict", "ms")


def prove(
    layers: Annotated[
        list[str] | None, typer.Argument(metavar="[LAYER...]", help="batch_norm, say.", show_default="all")
    ] = None,
    formula: Annotated[
        str | None, typer.Option(help='A gradient in NumPy\'s syntax: "gamma * rstd * (dy - mean(dy))".')
    ] = None,
    of: Annotated[str | None, typer.Option(help="The layer whose gradient the formula is.")] = None,
    wrt: Annotated[str | None, typer.Option(help="By what it is differentiated: x, say.")] = None,
) -> int:
    """Prove the gradients of the layers of xhat, or a formula of your own for one of them.

    Exit codes: 0 every gradient is proved or exact; 1 one is not; 2 wrong command line.
    """
    if formula is not None or of is not None or wrt is not None:
        if formula is None or of is None or wrt is None or layers:
            raise Refusal(
                "xhat prove: expected --formula, --of and --wrt together and no layer beside them, got fewer or more. "
                'Give --formula "..." --of batch_norm --wrt x, say.',
                2,
            )
        return _prove_formula(formula, of, wrt)
    return _prove_layers(layers or [])


def _prove_formula(formula: str, of: str, wrt: str) -> int:
    from xhat.verify import formulas  # not above: the other commands start without the engines

    with refusing(2):
        verdict = formulas.prove(formula, of=of, wrt=wrt)
    say(f"{verdict.word}  {verdict.message}", style="green" if _holds(verdict) else "red")
    if verdict.counterexample:
        say(f"for example: {verdict.counterexample}")
    return 0 if _holds(verdict) else 1


def _prove_layers(names: list[str]) -> int:
    from xhat.verify import library  # not above: the other commands start without the engines

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None, pulse_style="green"),
        TextColumn("{task.completed:.0f} verdicts"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    rows: list[library.Row] = []
    with refusing(2), bar:
        shown = bar.add_task("", total=None)
        for row in library.prove_layers(names):
            rows.append(row)
            bar.update(shown, advance=1, description=f"{row.layer} {row.what}")
    show(
        "Gradients of the layers",
        _COLUMNS,
        [(row.layer, row.case, row.what, row.engine, str(row.verdict.word), f"{row.ms:.1f}") for row in rows],
        left=5,
    )
    missed = library.undecided(rows)
    for row in missed:
        say(f"{row.layer} {row.case} {row.what}: {row.verdict.word}. {row.verdict.message}", style="red")
    gradients = {row.gradient for row in rows}
    held = len(gradients) - len({row.gradient for row in missed})
    say(f"{held} of {len(gradients)} gradients proved or exact, in {sum(row.ms for row in rows) / 1000:.1f} s")
    return 1 if missed or not rows else 0


def _holds(verdict: Verdict) -> bool:
    return verdict.level >= Level.EXACT
