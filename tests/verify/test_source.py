import ast
import contextlib
import hashlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhat.verify.source import SourceError, declaration, pairs, read

PAIR = "def swish_forward(x):\n    return x, x\n\n\ndef swish_backward(dout, cache):\n    return dout\n"


def write(folder, data, name="layers.py"):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def notebook(*cells, **metadata):
    code = [{"cell_type": "code", "source": cell, "outputs": [], "metadata": {}} for cell in cells]
    return json.dumps({"cells": code, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def found(folder, text):
    return [(p.name, p.forward, p.backward, p.kind) for p in pairs(read(write(folder, text)))]


def test_text_lines_and_hash(tmp_path):
    source = read(write(tmp_path, "x = 1\r\ny = 'é' + x\r\n"))
    assert source.text == "x = 1\r\ny = 'é' + x\r\n"
    assert source.lines == {1: "line 1", 2: "line 2", 3: "line 3"}
    assert source.sha256 == hashlib.sha256("x = 1\r\ny = 'é' + x\r\n".encode()).hexdigest()
    value = source.tree.body[1].value
    assert source.segment(value) == "'é' + x"
    assert source.segment(value.right) == "x"
    assert source.line_of(source.span(value)[0]) == 2


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_end_as_python_says(tmp_path, newline):
    source = read(write(tmp_path, newline.join(["a = 'x\x0cy\x1cz'", "b = 2 + 3", ""])))
    assert source.segment(source.tree.body[1].value) == "2 + 3"
    assert source.line_of(source.span(source.tree.body[1])[0]) == 2


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("# coding: latin-1\ns = 'é'\n".encode("latin-1"), "# coding: latin-1\ns = 'é'\n"),
        ("﻿x = 1\n".encode(), "x = 1\n"),
        (b"", ""),
        (b"# no newline at the end", "# no newline at the end"),
    ],
)
def test_encodings(tmp_path, data, text):
    assert read(write(tmp_path, data)).text == text


BAD = {
    "binary": (b"\x7fELF\0\0\0", "expected Python source, got binary data. Give the .py file.", None),
    "utf-16": ("x = 1".encode("utf-16"), "expected text in UTF-8, got UTF-16. Save it as UTF-8.", None),
    "latin-1": (b"x = 1\ny = '\xe9'\n", "expected text in utf-8, got another byte on line 2. Save it as UTF-8.", 2),
    "coding": (b"# coding: klingon\nx\n", "expected text, got: unknown encoding: klingon. Save it as UTF-8.", 1),
    "no text": (b"# coding: hex\n00\n", "expected text, got: ", 1),
    "syntax": ("x = 1\nprint 'a'\n", "expected Python 3, got a syntax error on line 2: ", 2),
    "open": ("def f(:\n", "expected Python 3, got a syntax error on line 1: ", 1),
    "brackets": ("(" * 5000, "got", None),
    "sum": ("x = " + "1+" * 3000 + "1", "expected at most 150 levels of nesting, got more", None),
    "minus": ("x = " + "-" * 100000 + "1", "expected at most 150 levels of nesting, got more", None),
    "calls": ("f" + "()" * 5000, "expected at most 150 levels of nesting, got more", None),
    "elif": ("if a: pass\n" + "elif b: pass\n" * 3000, "expected at most 150 levels of nesting, got more", None),
    "number": ("x = " + "9" * 10000, "expected Python 3, got a syntax error on line 1: ", 1),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_python_is_told(tmp_path, case):
    data, message, line = BAD[case]
    path = write(tmp_path, data)
    with pytest.raises(SourceError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert line is None or error.value.line == line


def test_what_is_no_file_is_told(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    large = tmp_path / "large.py"
    with large.open("wb") as stream:
        stream.truncate(21 * 2**20)
    for path, message in [
        (tmp_path / "none.py", f"{tmp_path}/none.py: expected a .py or .ipynb file, got no file. Check the path."),
        (tmp_path, f"{tmp_path}: expected a .py or .ipynb file, got a folder. Check the path."),
        (fifo, f"{fifo}: expected a .py or .ipynb file, got something that is no file. Check the path."),
        (large, f"{large}: expected at most 20 MB, got more. Keep data and pictures in other files."),
    ]:
        with pytest.raises(SourceError) as error:
            read(path)
        assert str(error.value) == message
    with pytest.raises(SourceError):
        read("a\0b.py")


def test_a_notebook_is_its_code_cells(tmp_path):
    document = json.loads(notebook("import numpy as np", PAIR))
    document["cells"].insert(1, {"cell_type": "markdown", "source": "# no code ("})
    document["cells"][2]["source"] = PAIR.splitlines(keepends=True)
    source = read(write(tmp_path, json.dumps(document), "a.ipynb"))
    assert source.text == "import numpy as np\n" + PAIR
    assert source.lines[1] == "cell 1, line 1"
    (pair,) = pairs(source)
    assert [source.lines[pair.forward_line], source.lines[pair.backward_line]] == ["cell 2, line 1", "cell 2, line 5"]
    assert source.complete
    assert not source.notes


def test_a_notebook_of_format_3(tmp_path):
    cells = [{"cell_type": "code", "input": ["x = 1\n", "y = 2"], "language": "python"}]
    source = read(write(tmp_path, json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}), "a.ipynb"))
    assert source.text == "x = 1\ny = 2\n"


@pytest.mark.parametrize(
    ("cell", "text", "complete"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1\n", True),
        ("%pylab inline\nx = 1", "pass\nx = 1\n", False),
        ("if a:\n    !ls -l 'it\nx = 1", "if a:\n    pass\nx = 1\n", True),
        ("files = !ls\nx = 1", "files = None\nx = 1\n", True),
        ("?print\nnp.sum??\nx = 1", "pass\npass\nx = 1\n", True),
        ("%%time\nx = 1", "pass\nx = 1\n", True),
        ("x = ('%d'\n% 3)", "x = ('%d'\n% 3)\n", True),
        ("%cd ..\nx = ('%d'\n% 3)", "pass\nx = ('%d'\n% 3)\n", True),
        ("s = '''\n%no magic\n!neither\n'''", "s = '''\n%no magic\n!neither\n'''\n", True),
        ("", "\n", True),
    ],
)
def test_magics(tmp_path, cell, text, complete):
    source = read(write(tmp_path, notebook(cell), "a.ipynb"))
    assert (source.text, source.complete, source.notes) == (text, complete, ())


def test_a_cell_that_no_pair_needs_is_left_out(tmp_path):
    source = read(write(tmp_path, notebook("x = (\ny", "%%cython\ncdef int x", PAIR), "a.ipynb"))
    assert [note[:21] for note in source.notes] == ["Cell 1 was left out: ", "Cell 2 was left out: "]
    assert "cell 1, line 1: expected Python 3, got a syntax error" in source.notes[0]
    assert source.notes[1] == "Cell 2 was left out: it is no Python (%%cython)."
    assert not source.complete
    assert source.lines[pairs(source)[0].forward_line] == "cell 3, line 1"


def test_a_broken_cell_that_holds_a_pair_is_an_error(tmp_path):
    path = write(tmp_path, notebook("x = 1", "def a_forward(x):\n    y = = 1\n"), "a.ipynb")
    with pytest.raises(SourceError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: cell 2, line 2: expected Python 3, got a syntax error on line 2: ")


BAD_NOTEBOOKS = {
    "empty": ("", "expected a notebook (JSON), got an error on line 1: "),
    "cut": (notebook(PAIR)[:60], "expected a notebook (JSON), got an error on line 1: "),
    "list": ("[]", "expected a notebook, got a damaged one: the whole is no object. Save it anew."),
    "no cells": ("{}", "expected a notebook, got a damaged one: it has no cells. Save it anew."),
    "cells": ('{"cells": 3}', "expected a notebook, got a damaged one: its cells are no list. Save it anew."),
    "cell": ('{"cells": [3]}', "expected a notebook, got a damaged one: a cell is no object. Save it anew."),
    "sheet": ('{"worksheets": [3]}', "expected a notebook, got a damaged one: its cells are no list. Save it anew."),
    "source": (notebook(7), "expected a notebook, got a damaged one: a cell's source is no text. Save it anew."),
    "deep": ("[" * 100000, "expected at most 150 levels of nesting, got more. Break the expression up."),
    "bytes": (b"\xff\xfe{}", "expected a notebook in UTF-8, got: "),
    "number": ('{"cells": ' + "9" * 5000 + "}", "got"),
    "R": (
        notebook("x <- 1", kernelspec={"language": "R"}),
        "expected a notebook in Python, got one in R. Give a Python notebook.",
    ),
}


@pytest.mark.parametrize("case", BAD_NOTEBOOKS)
def test_what_is_no_notebook_is_told(tmp_path, case):
    data, message = BAD_NOTEBOOKS[case]
    path = write(tmp_path, data, "a.ipynb")
    with pytest.raises(SourceError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_half_a_character_leaves_the_cell_out(tmp_path):
    source = read(write(tmp_path, notebook("s = '\ud800'", PAIR), "a.ipynb"))
    assert len(source.notes) == 1
    assert len(pairs(source)) == 1


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_reading_damaged_bytes_raises_nothing_else(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from([".py", ".ipynb"]))
    whole = bytearray((PAIR if suffix == ".py" else notebook("%pylab\nx = 1", PAIR)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 6)))
        whole[start:end] = data.draw(
            st.binary(max_size=4)
            | st.sampled_from([b"(", b'"', b"\\u", b"\r", b"%", b"\n!", b"null", b"# coding: x\n"])
        )
    path = write(tmp_path_factory.getbasetemp(), bytes(whole), f"damaged{suffix}")
    try:
        source = read(path)
        pairs(source)
        declaration(source)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.stmt):
                assert source.lines[node.lineno]
    except SourceError:
        pass


@given(st.binary(max_size=60), st.sampled_from([".py", ".ipynb"]))
@settings(max_examples=100, deadline=None)
def test_reading_any_bytes_raises_nothing_else(tmp_path_factory, data, suffix):
    with contextlib.suppress(SourceError):
        read(write(tmp_path_factory.getbasetemp(), data, f"any{suffix}"))


def test_pairs_by_name(tmp_path):
    text = "\n".join(
        f"def {name}(x, cache): return x, cache"
        for name in (
            "affine_forward", "affine_backward", "batchnorm_forward", "batchnorm_backward", "batchnorm_backward_alt",
            "conv_forward_naive", "conv_backward_naive", "pool_forward_fast", "pool_backward", "bn_fwd", "bn_bwd",
            "forwardX", "backwardX", "forward_tanh", "backward_tanh", "forward", "backward", "sigmoid",
            "sigmoid_backward", "svm_loss", "test_affine_forward", "feedforward",
        )
    )  # fmt: skip
    assert found(tmp_path, text + "\ndef one_loss(x): return x\n") == [
        ("affine", "affine_forward", "affine_backward", "functions"),
        ("batchnorm", "batchnorm_forward", "batchnorm_backward", "functions"),
        ("batchnorm_alt", "batchnorm_forward", "batchnorm_backward_alt", "functions"),
        ("conv_naive", "conv_forward_naive", "conv_backward_naive", "functions"),
        ("pool", "pool_forward_fast", "pool_backward", "functions"),
        ("bn", "bn_fwd", "bn_bwd", "functions"),
        ("X", "forwardX", "backwardX", "functions"),
        ("tanh", "forward_tanh", "backward_tanh", "functions"),
        ("layers", "forward", "backward", "functions"),
        ("sigmoid", "sigmoid", "sigmoid_backward", "functions"),
        ("svm_loss", "svm_loss", None, "loss"),
    ]


def test_a_pass_without_its_other_half_is_listed(tmp_path):
    source = read(write(tmp_path, "def a_forward(x): pass\ndef b_backward(x): pass\n"))
    assert [(p.name, p.forward, p.backward, p.line, p.note) for p in pairs(source)] == [
        ("a", "a_forward", None, 1, "There is no backward pass for it. Write a_backward."),
        ("b", None, "b_backward", 2, "There is no forward pass for it. Write b_forward."),
    ]


@pytest.mark.parametrize(
    ("decorator", "parameters", "kind"),
    [("", "self, x", "class"), ("@staticmethod", "x", "functions"), ("@staticmethod", "ctx, x", "class")],
)
def test_classes(tmp_path, decorator, parameters, kind):
    methods = "".join(f"    {decorator}\n    def {name}({parameters}): pass\n" for name in ("forward", "backward"))
    assert found(tmp_path, "class Norm:\n" + methods) == [("Norm", "Norm.forward", "Norm.backward", kind)]


def test_functions_behind_branches(tmp_path):
    text = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    def a_forward(x): ...
    def a_backward(x): ...
try:
    import fast
except ImportError:
    def b_forward(x): pass
else:
    def b_backward(x): pass
def outer():
    def c_forward(x): pass
    def c_backward(x): pass
    def e_forward(x): pass
def d_forward(x): pass
def d_backward(x): pass
def d_forward(x, y): pass
"""
    assert found(tmp_path, text) == [
        ("b", "b_forward", "b_backward", "functions"),
        ("outer.c", "outer.c_forward", "outer.c_backward", "nested"),
        ("d", "d_forward", "d_backward", "functions"),
    ]
    assert pairs(read(write(tmp_path, text)))[-1].forward_line == 18


def test_a_declaration_is_read_not_run(tmp_path):
    told = {"swish": {"x": "N D", "beta": "D", "stride": 2}}
    assert declaration(read(write(tmp_path, f"XHAT = {told!r}\n" + PAIR))) == told
    assert declaration(read(write(tmp_path, f"XHAT: dict = {told!r}\n"))) == told
    assert declaration(read(write(tmp_path, PAIR))) == {}
    assert declaration(read(write(tmp_path, "XHAT: dict\nOTHER = dict(a=1)\nXHAT_2: int = f()\n"))) == {}
    for text in (
        "XHAT = dict(a=1)",
        "XHAT = [1]",
        "XHAT = {1: {}}",
        "XHAT = {'a': 'N'}",
        "XHAT = {'a': {1: 2}}",
        "XHAT = {[]: 1}",
    ):
        path = write(tmp_path, "\n" + text + "\n")
        with pytest.raises(SourceError) as error:
            declaration(read(path))
        assert str(error.value) == (
            f"{path}: expected XHAT as a literal dictionary of dictionaries with text as keys, got something else on "
            'line 2. Write XHAT = {"swish": {"x": "N D", "beta": "D"}}.'
        )
        assert error.value.line == 2
