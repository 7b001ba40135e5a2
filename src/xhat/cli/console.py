"""What every command shares with the terminal: the two streams, tables, and refusals in one line."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


class _Terminal(Console):
    """A console whose reader may go away (`| head`, a full disk behind `>`): the work goes on in silence."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(nowhere, self.file.fileno())  # so that Python's own flush at the end has somewhere to go
        os.close(nowhere)


# Class names and file names may contain [brackets] and :colons:, so nothing is read as markup.
console = _Terminal(markup=False, highlight=False, emoji=False)
errors = _Terminal(markup=False, highlight=False, emoji=False, stderr=True)


class Refusal(Exception):  # noqa: N818  it is an answer, not a failure
    """A thing that the user can put right: one line on stderr and an exit code, never a traceback.

    Parameters
    ----------
    message : str
        `who: expected …, got …. What to do.`
    code : int
        The exit code: 1 for data and files, 2 for the command line.
    """

    def __init__(self, message: str, code: Literal[1, 2] = 1) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


@contextmanager
def refusing(code: Literal[1, 2] = 1) -> Generator[None]:
    """Turn the errors of a library call on the user's data, model or settings into a `Refusal`.

    Only such calls stand inside; an error anywhere else is our own mistake and keeps its traceback.

    Parameters
    ----------
    code : int
        The exit code of the refusal.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise Refusal(str(error)) from error
    except MemoryError as error:
        raise Refusal(f"xhat: expected enough memory, got too little: {error}. Ask for less.", code) from error
    except OSError as error:
        if error.errno is None:  # one of ours, which says what to do
            raise Refusal(str(error), code) from error
        where = error.filename or "a file"
        raise Refusal(
            f"xhat: expected to read or write {where}, got the answer: {error.strerror}. Choose another place.", code
        ) from error
    except (ValueError, TypeError, ArithmeticError, ImportError) as error:
        raise Refusal(str(error), code) from error


def _plain(text: str) -> str:
    """Return the text without what a terminal would obey: a class name may come from a hostile file."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def say(line: str = "", *, style: str | None = None) -> None:
    """Print a line, however long; it is never broken.

    Parameters
    ----------
    line : str
        The text.
    style : str, optional
        A colour of rich.
    """
    console.print(_plain(line), style=style, soft_wrap=True)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """Print a table of strings that lines up with and without colour.

    Parameters
    ----------
    title : str
        Stands above it.
    columns : sequence of str
        The headings.
    rows : iterable of sequences of str
        One string per column.
    left : int
        So many columns, from the left, hold words and are aligned left; the others hold numbers.
    """
    say(title, style="bold")
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        drawn.add_column(_plain(column), justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*map(_plain, row))
    console.print(drawn)


def warn(message: str) -> None:
    """Print one line on stderr, in yellow.

    Parameters
    ----------
    message : str
        The line.
    """
    errors.print(Text.assemble(("warning: ", "bold yellow"), _plain(message)), soft_wrap=True)


def complain(message: str) -> None:
    """Print one line on stderr, the part before the first colon in red.

    Parameters
    ----------
    message : str
        The line.
    """
    who, colon, rest = _plain(message).partition(": ")
    errors.print(Text.assemble((who + colon, "bold red"), rest), soft_wrap=True)
