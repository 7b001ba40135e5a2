"""A file or notebook as text: what it says, where its lines are found, and which functions belong together.

Nothing is run here. Whatever the bytes are, `read` returns a `Source` or raises a `SourceError` that says why not.
"""

from __future__ import annotations

import ast
import bisect
import hashlib
import io
import json
import os
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

Function = ast.FunctionDef | ast.AsyncFunctionDef

_LARGEST = 20 * 2**20
_DEEPEST = 150  # three frames of Python a level stay well below the limit on recursion
_NEWLINE = re.compile(r"\r\n|\r|\n")  # what ends a line for Python; str.splitlines knows more

# A cell's or a line's magic after which all names of the notebook are still known.
_HARMLESS = {
    "matplotlib",
    "load_ext",
    "reload_ext",
    "autoreload",
    "config",
    "cd",
    "ls",
    "pwd",
    "pip",
    "conda",
    "timeit",
}
_PYTHON_CELLS = {"time", "timeit", "capture", "prun"}
_MAGIC = re.compile(r"\s*(?:(\w+\s*=\s*)?(?:%{1,2}(\w*)|!)|\?|[\w.*]+\?{1,2}\s*$)")
_PAIRS_FUNCTION = re.compile(r"^\s*(?:async\s+)?def\s+\w*(?:forward|backward|fwd|bwd|loss)", re.MULTILINE | re.I)


class SourceError(Exception):
    """A file cannot be read as Python; `line` is where, counted from 1, if that is known."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, eq=False)
class Source:
    """A file of Python code, or the code cells of a notebook one after the other.

    Parameters
    ----------
    path : str
        As it was given.
    text : str
        The code, with its line endings. A notebook's magics are replaced by `pass`, so that the lines stay.
    tree : ast.Module
        The code, parsed.
    lines : mapping of int to str
        Where a person finds a line of `text`: "line 7", or "cell 3, line 5" in a notebook, whose code cells are
        counted from 1.
    sha256 : str
        Of the file's bytes.
    notes : tuple of str
        What was left out, as sentences.
    complete : bool
        Whether the file itself binds all its names: not where a magic or a cell that was left out may bind others.
    """

    path: str
    text: str
    tree: ast.Module
    lines: Mapping[int, str]
    sha256: str
    notes: tuple[str, ...] = ()
    complete: bool = True

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The functions that an import of the file can reach, by name: "batchnorm_forward", "Norm.forward"."""
        return dict(_functions(self.tree.body, ""))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return where in `text` a node begins and ends."""
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError("span: expected a node of the parsed text, got one that was made. Take it from `tree`.")
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def segment(self, node: ast.expr | ast.stmt) -> str:
        """Return the text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def line_of(self, offset: int) -> int:
        """Return the line, counted from 1, of a place in `text`."""
        return bisect.bisect_right(self._line_starts, offset)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in _NEWLINE.finditer(self.text))]

    def _offset(self, line: int, column: int) -> int:
        """Return a place in `text`; Python counts its columns in bytes of UTF-8."""
        start = self._line_starts[line - 1]
        head = self.text[start : start + column]
        return start + (column if head.isascii() else len(self.text[start:].encode()[:column].decode()))


@dataclass(frozen=True)
class FoundPair:
    """A forward and a backward pass that belong together, by their names.

    Parameters
    ----------
    name : str
        "batchnorm", "batchnorm_alt"; a class's name.
    forward, backward : str, optional
        What the functions are called in the file, "Norm.forward" inside a class. None where there is none.
    forward_line, backward_line : int, optional
        Where they begin.
    kind : str
        "functions"; "loss" for one function that returns a loss and its gradient; "class" for methods that keep their
        cache on the object, "nested" for functions inside a function: neither can be called from outside.
    note : str
        Why the pair cannot be checked, as a sentence; empty if it can.
    """

    name: str
    forward: str | None
    backward: str | None
    forward_line: int | None = None
    backward_line: int | None = None
    kind: str = "functions"
    note: str = ""

    @property
    def line(self) -> int | None:
        """Where the first of the two begins."""
        return self.forward_line if self.forward_line is not None else self.backward_line


def read(path: str | os.PathLike[str]) -> Source:
    """Read a .py file or an .ipynb notebook without running it.

    Raises
    ------
    SourceError
        If it is not there, too large, binary, damaged, or not Python.
    """
    file = Path(path)
    name = str(path)
    try:
        if not file.is_file():
            problem = "a folder" if file.is_dir() else "no file" if not file.exists() else "something that is no file"
            raise SourceError(f"{name}: expected a .py or .ipynb file, got {problem}. Check the path.")
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SourceError(f"{name}: expected a readable file, got: {reason}. Check the path.") from None
    if len(data) > _LARGEST:
        raise SourceError(f"{name}: expected at most 20 MB, got more. Keep data and pictures in other files.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes in somebody's strings are no concern of ours
        return _read_notebook(name, data) if file.suffix.lower() == ".ipynb" else _read_python(name, data)


def _read_python(name: str, data: bytes) -> Source:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"{name}: expected text in UTF-8, got UTF-16. Save it as UTF-8.")
    if b"\0" in data:
        raise SourceError(f"{name}: expected Python source, got binary data. Give the .py file.")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        text.encode()
    except SyntaxError as error:
        raise SourceError(f"{name}: expected text, got: {error.msg}. Save it as UTF-8.", 1) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"{name}: expected text in {error.encoding}, got another byte on line {line}. Save it as UTF-8.", line
        ) from None
    except (UnicodeError, LookupError, ValueError) as error:
        raise SourceError(f"{name}: expected text, got: {error}. Save it as UTF-8.", 1) from None
    tree = _parse(name, text)
    count = len(_NEWLINE.findall(text)) + 1
    lines = {line: f"line {line}" for line in range(1, count + 1)}
    return Source(name, text, tree, lines, hashlib.sha256(data).hexdigest())


def _parse(name: str, text: str) -> ast.Module:
    """Parse text; the error says what and where."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        where = "" if error.lineno is None else f" on line {error.lineno}"
        raise SourceError(
            f"{name}: expected Python 3, got a syntax error{where}: {error.msg}. Run the file with Python first.",
            error.lineno,
        ) from None
    except (ValueError, OverflowError) as error:
        raise SourceError(f"{name}: expected Python source, got: {error}. Save it as UTF-8.") from None
    except (RecursionError, MemoryError):
        raise _too_deep(name) from None
    _check_depth(name, tree)
    return tree


def _check_depth(name: str, tree: ast.Module) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    line = next((node.lineno for node in level if isinstance(node, ast.expr | ast.stmt)), None)
    raise _too_deep(name, line)


def _too_deep(name: str, line: int | None = None) -> SourceError:
    where = "" if line is None else f" on line {line}"
    return SourceError(
        f"{name}: expected at most {_DEEPEST} levels of nesting, got more{where}. Break the expression up.", line
    )


def _read_notebook(name: str, data: bytes) -> Source:
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise SourceError(
            f"{name}: expected a notebook (JSON), got an error on line {error.lineno}: {error.msg}. Save it anew.",
            error.lineno,
        ) from None
    except (RecursionError, MemoryError):
        raise _too_deep(name) from None
    except ValueError as error:
        raise SourceError(f"{name}: expected a notebook in UTF-8, got: {error}. Save it anew.") from None

    text: list[str] = []
    lines: dict[int, str] = {}
    notes: list[str] = []
    complete = True
    for number, source in enumerate(_code_cells(name, document), 1):
        cell = _cell(name, number, source)
        complete &= cell.complete
        notes.extend(cell.notes)
        for line in range(1, len(_NEWLINE.findall(cell.text)) + 1):
            lines[len(lines) + 1] = f"cell {number}, line {line}"
        text.append(cell.text)
    joined = "".join(text)
    lines[len(lines) + 1] = "the end"
    tree = _parse(name, joined)
    return Source(name, joined, tree, lines, hashlib.sha256(data).hexdigest(), tuple(notes), complete)


def _code_cells(name: str, document: Any) -> Iterator[str]:
    """Yield the code of each code cell of a notebook of format 3 or 4."""
    if not isinstance(document, dict):
        raise _damaged(name, "the whole is no object")
    notebook = cast("dict[str, Any]", document)
    language = _language(notebook)
    if language and language.lower() not in ("python", "ipython", "python3"):
        raise SourceError(f"{name}: expected a notebook in Python, got one in {language[:40]}. Give a Python notebook.")
    if "cells" in notebook:
        groups: list[Any] = [notebook["cells"]]
    else:
        sheets = notebook.get("worksheets")
        if not isinstance(sheets, list):
            raise _damaged(name, "it has no cells")
        groups = [_entry(sheet, "cells") for sheet in cast("list[Any]", sheets)]
    for group in groups:
        if not isinstance(group, list):
            raise _damaged(name, "its cells are no list")
        for cell in cast("list[Any]", group):
            if not isinstance(cell, dict):
                raise _damaged(name, "a cell is no object")
            entries = cast("dict[str, Any]", cell)
            if entries.get("cell_type") != "code":
                continue
            source: Any = entries.get("source", entries.get("input", ""))
            parts = cast("list[Any]", source) if isinstance(source, list) else [source]
            if not all(isinstance(part, str) for part in parts):
                raise _damaged(name, "a cell's source is no text")
            yield "".join(parts)


def _language(notebook: dict[str, Any]) -> str | None:
    node: Any = notebook
    for key in ("metadata", "kernelspec", "language"):
        node = _entry(node, key)
    return node if isinstance(node, str) else None


def _entry(node: Any, key: str) -> Any:
    return cast("dict[str, Any]", node).get(key) if isinstance(node, dict) else None


def _damaged(name: str, reason: str) -> SourceError:
    return SourceError(f"{name}: expected a notebook, got a damaged one: {reason}. Save it anew.")


@dataclass
class _Cell:
    text: str  # ends with a newline
    complete: bool = True
    notes: tuple[str, ...] = ()


def _cell(name: str, number: int, source: str) -> _Cell:
    """Return a cell as Python: magics replaced by `pass`, all of it if it is no Python and no pair needs it."""
    lines = _NEWLINE.split(source)
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    complete = True
    if lines[0].startswith("%%"):
        magic = lines[0][2:].split(maxsplit=1)[0:1]
        if magic and magic[0] not in _PYTHON_CELLS:
            blank = _Cell("\n" * len(lines), magic[0] in {"bash", "sh", "html", "javascript", "latex", "markdown"})
            blank.notes = (f"Cell {number} was left out: it is no Python (%%{magic[0][:40]}).",)
            return blank
        lines[0] = "pass"

    # Only where the parser stumbles is a line that begins with % a magic: it may as well continue an expression.
    attempts = 1 + min(len(lines), _LARGEST // (len(source) + 1))
    problem = ""
    line: int | None = None
    for _ in range(attempts):
        text = "\n".join(lines) + "\n"
        try:
            _parse(name, text)
            text.encode()
        except SourceError as error:
            problem, line = str(error).removeprefix(f"{name}: "), error.line
            magic = _MAGIC.match(lines[line - 1]) if line and line <= len(lines) else None
            if magic is None or line is None:
                break
            complete &= magic[2] is None or magic[2] in _HARMLESS
            indent = lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
            lines[line - 1] = f"{indent}{magic[1]}None" if magic[1] else f"{indent}pass"
        except UnicodeError:
            problem, line = "expected text, got half a character. Type the cell anew.", None
            break
        else:
            return _Cell(text, complete)
    where = f"cell {number}" if line is None else f"cell {number}, line {line}"
    if _PAIRS_FUNCTION.search(source):
        raise SourceError(f"{name}: {where}: {problem}")
    return _Cell("\n" * len(lines), False, (f"Cell {number} was left out: {where}: {problem}",))


_FORWARD = ("forward", "fwd", "fprop")
_BACKWARD = ("backward", "bwd", "bprop", "backprop")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_VARIANTS = {
    "alt", "alternative", "vectorized", "vectorised", "vec", "naive", "fast", "slow", "loop", "loops", "looped",
    "simple", "simplified", "staged", "closed", "form", "short", "graph", "im2col", "strides", "cython", "numpy",
    "new", "old", "my", "v", "ver", "version", "v1", "v2", "v3", "1", "2", "3", "efficient", "optimized", "pass",
}  # fmt: skip
_CLASS_NOTE = (
    "Methods that keep their cache on the object cannot be called alone. "
    "Write two functions, forward and backward, that hand the cache over."
)
_TORCH_NOTE = "A torch function works on tensors. Write forward and backward on NumPy arrays."
_NESTED_NOTE = "Functions inside a function cannot be called from outside. Move them to the top level of the file."


def pairs(source: Source) -> list[FoundPair]:
    """Return the forward and backward passes of a file in the order in which they stand."""
    found: list[FoundPair] = []
    by_scope: dict[str, dict[str, Function]] = {}
    for name, function in source.functions.items():
        by_scope.setdefault(name.rpartition(".")[0], {})[name] = function
    for scope, functions in by_scope.items():
        found += _pairs_of_scope(source, scope, functions)
    for name, function in source.functions.items():
        nested = dict(_functions(function.body, f"{name}."))
        inside = [pair for pair in _pairs_of_scope(source, name, nested) if pair.forward and pair.backward]
        found += [
            FoundPair(p.name, p.forward, p.backward, p.forward_line, p.backward_line, "nested", _NESTED_NOTE)
            for p in inside
        ]
    return sorted(found, key=lambda pair: (pair.line or 0, pair.backward_line or 0, pair.name))


def declaration(source: Source) -> dict[str, dict[str, Any]]:
    """Return what a file says of its own pairs: `XHAT = {"swish": {"x": "N D", "beta": "D"}}`, empty without.

    Raises
    ------
    SourceError
        If XHAT is anything but such a literal.
    """
    told: dict[str, dict[str, Any]] = {}
    for statement in statements(source.tree.body):
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign):
            targets, value = [statement.target], statement.value
        else:
            continue
        if value is None or not any(isinstance(target, ast.Name) and target.id == "XHAT" for target in targets):
            continue
        try:
            literal: Any = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            literal = None
        if not _is_declaration(literal):
            where = source.lines[statement.lineno]
            raise SourceError(
                f"{source.path}: expected XHAT as a literal dictionary of dictionaries with text as keys, "
                f'got something else on {where}. Write XHAT = {{"swish": {{"x": "N D", "beta": "D"}}}}.',
                statement.lineno,
            )
        told = literal
    return told


def _is_declaration(literal: Any) -> bool:
    if not isinstance(literal, dict):
        return False
    entries = cast("dict[Any, Any]", literal)
    return all(
        isinstance(name, str)
        and isinstance(told, dict)
        and all(isinstance(key, str) for key in cast("dict[Any, Any]", told))
        for name, told in entries.items()
    )


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a scope, those inside its branches, loops and `with` blocks too.

    What stands under `if TYPE_CHECKING` never runs and is left out.
    """
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and _is_type_checking(statement.test):
            yield from statements(statement.orelse)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                yield from statements(getattr(statement, field, ()))
            for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
                yield from statements(part.body)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _functions(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, Function]]:
    for statement in statements(body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + statement.name, statement
        elif isinstance(statement, ast.ClassDef):
            yield from _functions(statement.body, f"{prefix}{statement.name}.")


def _side(name: str) -> tuple[str | None, tuple[str, ...], str]:
    """Split a function's name into its direction, its other words in lower case, and the name without direction."""
    words = list(_WORD.finditer(name))
    directions = [word for word in words if word[0].lower() in (*_FORWARD, *_BACKWARD)]
    if len(directions) != 1 or (words and words[0][0].lower() in ("test", "check")):
        return None, tuple(word[0].lower() for word in words), name
    word = directions[0]
    rest = tuple(other[0].lower() for other in words if other is not word)
    left, right = name[: word.start()].rstrip("_"), name[word.end() :].lstrip("_")
    joined = f"{left}_{right}" if left and right else left + right
    return "forward" if word[0].lower() in _FORWARD else "backward", rest, joined.strip("_")


def _base(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in _VARIANTS)


def _pairs_of_scope(source: Source, scope: str, functions: Mapping[str, Function]) -> Iterator[FoundPair]:
    """Yield the pairs among the functions of a module, or of a class."""
    sides: dict[str, dict[tuple[str, ...], str]] = {"forward": {}, "backward": {}}
    plain: dict[tuple[str, ...], str] = {}
    titles: dict[str, str] = {}
    for name in functions:
        direction, words, title = _side(name.rpartition(".")[2])
        (plain if direction is None else sides[direction])[words] = name
        titles[name] = title
    forwards, backwards = sides["forward"], sides["backward"]

    def pair(title: str, forward: str | None, backward: str | None, note: str = "") -> FoundPair:
        kind = "functions"
        methods = [functions[name] for name in (forward, backward) if name is not None]
        if scope and any(not _is_static(method) for method in methods):
            kind, note = "class", _CLASS_NOTE
        elif scope and any(method.args.args and method.args.args[0].arg == "ctx" for method in methods):
            kind, note = "class", _TORCH_NOTE
        line, backward_line = (None if name is None else functions[name].lineno for name in (forward, backward))
        label = ".".join(part for part in (scope, title) if part) or Path(source.path).stem
        return FoundPair(label, forward, backward, line, backward_line, kind, note)

    used: set[str] = set()
    for words, backward in backwards.items():
        forward = forwards.get(words) or _variant(words, forwards) or plain.get(words) or plain.get(_base(words))
        if forward is None:
            title = titles[backward]
            missing = f"{title}_forward" if title else "forward"
            yield pair(title, None, backward, f"There is no forward pass for it. Write {missing}.")
            continue
        used.add(forward)
        yield pair(titles[backward], forward, backward)
    for words, forward in forwards.items():
        if forward in used:
            continue
        backward = _variant(words, backwards)
        title = titles[forward]
        missing = f"{title}_backward" if title else "backward"
        note = "" if backward else f"There is no backward pass for it. Write {missing}."
        yield pair(title, forward, backward, note)
    for words, name in plain.items():
        if name not in used and "loss" in words and words[0] not in ("test", "check"):
            function = functions[name]
            if not scope and _returns_several(function):
                yield FoundPair(titles[name], name, None, function.lineno, None, "loss")


def _variant(words: tuple[str, ...], others: Mapping[tuple[str, ...], str]) -> str | None:
    """Return the function of the same layer in another version, if there is no doubt which."""
    base = _base(words)
    if base in others:
        return others[base]
    same = [name for key, name in others.items() if _base(key) == base]
    return same[0] if len(same) == 1 else None


def _is_static(function: Function) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "staticmethod" for node in function.decorator_list)


def _returns_several(function: Function) -> bool:
    return any(
        isinstance(statement, ast.Return) and isinstance(statement.value, ast.Tuple) and len(statement.value.elts) > 1
        for statement in statements(function.body)
    )
