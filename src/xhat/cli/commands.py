"""The list of commands: write one file with one function, and add one line here."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer

from xhat.cli.bench import bench
from xhat.cli.check import check
from xhat.cli.console import Refusal, complain, say
from xhat.cli.explain import explain
from xhat.cli.info import info
from xhat.cli.predict import predict
from xhat.cli.prove import prove
from xhat.cli.train import train

app = typer.Typer(
    name="xhat",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 the data, a model or a file stood in the way, 2 wrong command line, "
    "130 stopped by Ctrl-C (what was reached is saved).",
)
app.command()(train)
app.command()(predict)
app.command()(explain)
app.command()(check)
app.command()(prove)
app.command()(bench)
app.command()(info)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"xhat {version('xhat')} (Python {platform.python_version()})")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _xhat(  # pyright: ignore[reportUnusedFunction]
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Train normalized networks on tables and images, with gradients checked before the first step."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command; everything that a user can put right ends in one line on stderr.

    Parameters
    ----------
    arguments : sequence of str
        What stands after `xhat` on the command line.

    Returns
    -------
    int
        The exit code.
    """
    try:
        code: Any = typer.main.get_command(app)(list(arguments), prog_name="xhat", standalone_mode=False)
    except typer.TyperException as error:
        path = getattr(getattr(error, "ctx", None), "command_path", "xhat")
        told = error.format_message()
        complain(f"{path}: {told}{'' if told.endswith(('.', '?')) else '.'} See {path} --help.")
        return error.exit_code
    except Refusal as refusal:
        complain(str(refusal))
        return refusal.code
    except typer.Abort:  # Ctrl-C where nothing waited for it
        complain("xhat: stopped by Ctrl-C. What was saved before stays.")
        return 130
    return code if isinstance(code, int) else 0
