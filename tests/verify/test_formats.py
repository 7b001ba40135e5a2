"""The formats of a report: each parsed by its reader, and none obeyed where a file has a hostile name."""

import html.parser
import json
import math
import subprocess
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xhat.verify import formats
from xhat.verify.formats import Checked
from xhat.verify.report import FileReport, Finding, Level, PairReport, Verdict, Word

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "check.schema.json").read_text())
TEXT = "import numpy as np\ndef a_forward(x):\n    return x, x\n\n\ndef a_backward(dout, cache):\n    return 2 * dout\n"
REPAIR = "--- a.py\n+++ a.py\n@@ -6,2 +6,2 @@\n def a_backward(dout, cache):\n-    return 2 * dout\n+    return dout\n"
HOSTILE = "\"><script>alert(1)</script>&amp;]]>\x1b[31m\x00\x07\u202e\udcff%0A::error::[red]<b>'"


def report(name="a.py", word=Word.DISPROVED):
    return FileReport(
        name,
        [
            PairReport(
                "a",
                [
                    Verdict("out", Word.PROVED, "for all N and D"),
                    Verdict("dx", word, "off by a factor 2\nin every entry", 7, REPAIR, "x = 1/2: 2 and 1"),
                    Verdict("dw", Word.NOT_DECIDED, "np.fft is not known (line 3)", 3),
                    Verdict("db", Word.AGREES, "to 1e-11"),
                    Verdict("dg", Word.EXACT, "at 3x2"),
                ],
                [Finding("input-modified", "dout is changed in place", 7)],
                2,
                {"prime": 2**61 - 1, "half": Fraction(1, 2), "shape": (3, np.int64(2))},
            ),
            PairReport("b", limit="time", line=5),
            PairReport("c"),
        ],
    )


FILES = [
    Checked(report(), TEXT, printed="hello", dropped=9, refused=("write a file: x",), notes=("a note",), seconds=0.5),
    Checked(FileReport("broken.py", error="SyntaxError: invalid syntax", error_line=3), "\n\n\n"),
    Checked(FileReport("empty.py")),
]
HOSTILE_FILES = [
    Checked(
        FileReport(
            HOSTILE,
            [
                PairReport(
                    HOSTILE,
                    [Verdict(HOSTILE, Word.DISPROVED, HOSTILE, 1, HOSTILE, HOSTILE)],
                    [Finding(HOSTILE, HOSTILE, 1, HOSTILE)],
                    1,
                    {HOSTILE: HOSTILE},
                    HOSTILE,
                )
            ],
        ),
        HOSTILE,
        {1: HOSTILE},
        HOSTILE,
        HOSTILE,
        1,
        [HOSTILE],
        [HOSTILE],
    ),
    Checked(FileReport(HOSTILE, error=HOSTILE, error_line=1)),
]
ALL = [FILES, HOSTILE_FILES, []]


def valid(value, schema, path="$"):
    """Hold a value to the part of JSON Schema that the format's schema uses."""
    while "$ref" in schema:
        schema = {**SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]}
    known = {
        "type",
        "required",
        "additionalProperties",
        "properties",
        "items",
        "enum",
        "const",
        "minimum",
        "description",
    }
    assert set(schema) <= known | {"$schema", "$defs", "title"}, schema
    names = {
        "object": dict,
        "array": list,
        "string": str,
        "null": type(None),
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        fits = [
            name
            for name in types
            if isinstance(value, names[name]) and (name == "boolean" or not isinstance(value, bool))
        ]
        assert fits, (path, value)
    if "enum" in schema:
        assert value in schema["enum"], (path, value)
    if "const" in schema:
        assert value == schema["const"], path
    if "minimum" in schema and value is not None:
        assert value >= schema["minimum"], path
    if "properties" in schema:
        assert set(value) == set(schema["required"]) == set(schema["properties"]), path
        for key, entry in value.items():
            valid(entry, schema["properties"][key], f"{path}.{key}")
    for number, entry in enumerate(value if "items" in schema else ()):
        valid(entry, schema["items"], f"{path}[{number}]")


@pytest.mark.parametrize("files", ALL, ids=["usual", "hostile", "none"])
def test_json_is_what_the_schema_says(files):
    valid(json.loads(formats.json(files, Level.PROOF)), SCHEMA)


def test_json_holds_all_that_is_asked_for():
    document = json.loads(formats.json(FILES, Level.EXACT))
    assert document["asked"] == "exact"
    pair = document["files"][0]["pairs"][0]
    assert pair["verdicts"][1] == {
        "name": "dx",
        "verdict": "DISPROVED",
        "level": "none",
        "message": "off by a factor 2\nin every entry",
        "line": 7,
        "repair": REPAIR,
        "counterexample": "x = 1/2: 2 and 1",
    }
    assert pair["evidence"] == {"prime": 2**61 - 1, "half": "1/2", "shape": [3, 2]}


words = st.text(max_size=8)
lines = st.none() | st.integers(1, 10**6)
verdicts = st.builds(Verdict, words, st.sampled_from(Word), words, lines, st.none() | words, st.none() | words)
findings = st.builds(Finding, words, words, lines, st.none() | words)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
evidence = st.dictionaries(words, st.recursive(leaves, lambda inner: st.lists(inner, max_size=3)), max_size=3)
pair_reports = st.builds(
    PairReport,
    words,
    st.lists(verdicts, max_size=3).map(tuple),
    st.lists(findings, max_size=2).map(tuple),
    lines,
    evidence,
    st.none() | words,
)
reports = st.builds(FileReport, words, st.lists(pair_reports, max_size=2).map(tuple), st.none() | words, lines)


@given(reports)
def test_a_report_survives_json(said):
    assert formats.from_json(json.loads(json.dumps(formats.as_json(said)))) == said


@given(
    st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["file", "pairs", "error", "error_line", "pair", "verdicts"]), inner, max_size=4
            )
        ),
    )
)
def test_what_is_no_report_is_refused(values):
    if isinstance(values, dict) and {"file", "pairs", "error", "error_line"} <= set(values):
        return
    with pytest.raises(ValueError, match="from_json: expected a report, got something else"):
        formats.from_json(values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.inf, "inf"),
        (math.nan, "nan"),
        (np.float64(0.5), 0.5),
        (np.arange(2), [0, 1]),
        ({1: {"b", "a"}}, {"1": ["a", "b"]}),
        (Fraction(1, 3), "1/3"),
        (Level.PROOF, 3),
        (Word.PROVED, "PROVED"),
        (np.True_, True),
    ],
)
def test_evidence_becomes_plain(value, expected):
    plain = formats.plain(value)
    assert plain == expected
    assert type(plain) is type(expected)


@pytest.mark.parametrize("level", list(Level)[1:])
@pytest.mark.parametrize("files", ALL, ids=["usual", "hostile", "none"])
def test_text_is_printable_and_fits(files, level):
    for width in (60, 100):
        written = formats.text(files, level, width=width)
        assert all(c.isprintable() or c == "\n" for c in written)
        if files is FILES:
            assert all(len(line) <= width for line in written.splitlines())
    coloured = formats.text(files, level, colour=True, width=100)
    plain = formats.text(files, level, width=100)
    for code in ("0", "1", "2", "31", "32", "33", "36", "1;31", "1;32"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain


def test_text_says_what_there_is():
    written = formats.text(FILES, Level.EXACT)
    for line in (
        "  a  (line 2)",
        "    ✓ out  PROVED       for all N and D",
        "    ✗ dx   DISPROVED    off by a factor 2  (line 7)",
        "                        in every entry",
        "      for example: x = 1/2: 2 and 1",
        "        -    return 2 * dout",
        "    ? dw   NOT DECIDED  np.fft is not known (line 3)  (line 3)",
        "    ≈ db   AGREES       to 1e-11",
        "    ! input-modified  dout is changed in place  (line 7)",
        "    ! LIMIT        The time was up before this was decided. Look for an endless loop, or give more",
        "  note: a note",
        "  not allowed: write a file: x",
        "  | hello",
        "  | ... and 9 bytes more",
        "    ! ERROR        SyntaxError: invalid syntax  (line 3)",
        "    ! ERROR        no pair of a forward and a backward pass found. Call the functions x_forward and",
        "  c",
        "    ? NOT DECIDED  nothing was decided about this pair",
    ):
        assert line in written.splitlines(), line
    assert " ".join(written.split("\n\n")[-1].split()) == (
        "3 files: 2 of 6 outputs and gradients exact or proved, 1 disproved, 1 right as far as they were checked, "
        "2 not decided, 1 to change besides, 1 stopped by a limit, 2 not to be checked"
    )


@pytest.mark.parametrize("files", ALL, ids=["usual", "hostile", "none"])
def test_junit_counts_and_holds_only_what_its_schema_knows(files):
    known = {
        "testsuites": {"name", "tests", "failures", "errors"},
        "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
        "testcase": {"classname", "name"},
        "failure": {"message", "type"},
        "error": {"message", "type"},
        "skipped": {"message"},
        "system-out": set(),
    }
    inside = {
        "testsuites": {"testsuite"},
        "testsuite": {"testcase", "system-out"},
        "testcase": {"failure", "error", "skipped"},
    }
    root = ElementTree.fromstring(formats.junit(files, Level.EXACT).encode("utf-8", "strict"))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= known[element.tag]
        assert {child.tag for child in element} <= inside.get(element.tag, set())
    for suite in root:
        assert int(suite.get("tests")) == len(suite.findall("testcase"))
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(count)) == len(suite.findall(f"testcase/{tag}"))


def test_junit_has_a_case_for_each_gradient():
    root = ElementTree.fromstring(formats.junit(FILES, Level.EXACT).encode())
    cases = {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {
        ("a.py.a", "out"): [],
        ("a.py.a", "dx"): ["failure"],
        ("a.py.a", "dw"): ["skipped"],
        ("a.py.a", "db"): ["skipped"],
        ("a.py.a", "dg"): [],
        ("a.py.a", "input-modified"): ["failure"],
        ("a.py.b", "limit"): ["error"],
        ("a.py.c", "pair"): ["skipped"],
        ("broken.py", "import"): ["error"],
        ("empty.py", "pair"): ["error"],
    }
    failure = root.find(".//failure")
    assert failure.get("message") == "DISPROVED: off by a factor 2"
    assert "in every entry\na.py, line 7\nfor example: x = 1/2: 2 and 1\n" in failure.text
    assert root.find(".//system-out").text == "hello"


@pytest.mark.parametrize("files", ALL, ids=["usual", "hostile", "none"])
def test_sarif_holds_together(files):
    document = json.loads(formats.sarif(files, Level.EXACT))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert (result["kind"], result["level"]) in {("fail", "error"), ("pass", "none"), ("open", "none")}
        assert result["message"]["text"]
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.isascii()
        assert not set(uri) & set('<>"\x1b ')


def test_sarif_names_lines_and_fixes():
    results = json.loads(formats.sarif(FILES, Level.EXACT))["runs"][0]["results"]
    wrong = results[1]
    assert wrong["ruleId"] == "disproved"
    assert wrong["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a.py"},
        "region": {"startLine": 7},
    }
    assert wrong["locations"][0]["logicalLocations"] == [{"name": "dx", "fullyQualifiedName": "a.dx"}]
    assert wrong["fixes"][0]["artifactChanges"][0]["replacements"] == [
        {
            "deletedRegion": {"startLine": 7, "startColumn": 1, "endLine": 8, "endColumn": 1},
            "insertedContent": {"text": "    return dout\n"},
        }
    ]
    notebook = Checked(report("a b.ipynb"), TEXT, {7: "cell 2, line 1"})
    wrong = json.loads(formats.sarif([notebook], Level.EXACT))["runs"][0]["results"][1]
    assert wrong["locations"][0]["physicalLocation"] == {"artifactLocation": {"uri": "a%20b.ipynb"}}
    assert wrong["message"]["text"].endswith("(cell 2, line 1)")
    assert "fixes" not in wrong


TAGS = "html head meta title style body main h1 h2 h3 p section table tr th td pre code a span i details summary"


class Page(html.parser.HTMLParser):
    """Reads a page: its tags must close, and its text is kept."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.words = [], set(), [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        found = dict(attributes)
        assert not [name for name in found if name.startswith("on")]
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("files", ALL, ids=["usual", "hostile", "none"])
def test_html_is_a_page_of_its_own(files):
    page = Page()
    page.feed(formats.html(files, Level.EXACT))
    assert page.open == []
    assert page.tags <= set(TAGS.split())
    assert len(set(page.ids)) == len(page.ids)
    assert {link for link in page.links if link[1:] not in page.ids} <= {"#f1l1"}  # the line of a file without text
    assert all(link.startswith("#f") for link in page.links)


def test_html_shows_words_lines_and_repairs():
    page = Page()
    page.feed(formats.html(FILES, Level.EXACT))
    for words in (
        "✓ PROVED",
        "✗ DISPROVED",
        "? NOT DECIDED",
        "-    return 2 * dout",
        "hello",
        "SyntaxError",
        "for example: x = 1/2",
    ):
        assert words in page.words
    assert "7     return 2 * dout  ✗ DISPROVED dx  ! FINDING input-modified" in page.words
    assert "f0l7" in page.ids


def git_applies(folder, diff):
    (folder / "p").write_text(diff, newline="")
    subprocess.run(["git", "apply", "-p0", "p"], cwd=folder, check=True, capture_output=True)


def diff_of(line, old, new, context=""):
    return f"--- x\n+++ x\n@@ -{line},{1 + bool(context)} +{line},{1 + bool(context)} @@\n{context}-{old}\n+{new}\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_repairs_become_one_patch(tmp_path, ending, last):
    lines = [f"line {n}" for n in range(30)]
    text = ending.join(lines) + ending * last
    (tmp_path / "a.py").write_text(text, newline="")
    repairs = [
        diff_of(21, "line 20", "LINE 20"),
        diff_of(3, "line 2", "LINE 2\n+more"),
        diff_of(3, "line 2", "LINE 2\n+more"),  # found twice
        diff_of(3, "line 2", "other"),  # the same line
        diff_of(9, "not there", "x"),
        diff_of(29, "line 29", "LINE 29", " line 28\n"),
    ]
    verdicts = [Verdict(f"d{n}", Word.DISPROVED, "wrong", 1, repair) for n, repair in enumerate(repairs)]
    made = formats.patch([Checked(FileReport("a.py", [PairReport("a", verdicts)]), text)])
    assert made.left_out == 2
    git_applies(tmp_path, made.diff)
    for old, new in (("line 20", "LINE 20"), ("line 2", f"LINE 2{ending}more"), ("line 29", "LINE 29")):
        lines[lines.index(old)] = new
    assert (tmp_path / "a.py").read_bytes() == (ending.join(lines) + ending * last).encode()


def test_a_patch_has_files_in_folders_and_no_notebooks(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_text(TEXT)
    files = [Checked(report("sub/a.py"), TEXT), Checked(report("sub/a.ipynb"), TEXT), FILES[2]]
    made = formats.patch(files)
    assert made.left_out == 1
    git_applies(tmp_path, made.diff)
    assert (tmp_path / "sub" / "a.py").read_text() == TEXT.replace("2 * dout", "dout")
    assert formats.patch([]).diff == ""


def test_github_commands_are_one_line_each():
    for files in ALL:
        for line in formats.github(files, Level.EXACT).splitlines():
            assert line.startswith(("::error file=", "::warning file="))
            assert line.isprintable()
    assert (
        formats.github(FILES, Level.EXACT)
        .splitlines()[0]
        .startswith("::error file=a.py,line=7,title=a dx::DISPROVED: off by a factor 2%0Ain every")
    )


def test_an_output_that_agrees_passes_and_a_gradient_is_skipped():
    verdicts = [Verdict("running_mean", Word.AGREES, "to 1e-15"), Verdict("dx", Word.AGREES, "to 1e-12")]
    written = formats.junit([Checked(FileReport("a.py", [PairReport("batchnorm", verdicts)]))], Level.EXACT)
    assert '<testcase classname="a.py.batchnorm" name="running_mean"></testcase>' in written
    assert 'name="dx"><skipped message="AGREES: to 1e-12">' in written


def test_a_change_in_junit_names_no_path_of_the_one_who_checks():
    repair = "--- /home/me/a.py\n+++ /home/me/a.py\n@@ -1 +1 @@\n-1\n+2\n"
    verdict = Verdict("dx", Word.DISPROVED, "wrong", repair=repair)
    written = formats.junit([Checked(FileReport("a.py", [PairReport("a", [verdict])]))], Level.EXACT)
    assert "/home/me" not in written
    assert "@@ -1 +1 @@\n-1\n+2" in written


@pytest.mark.parametrize(("entries", "whole"), [(10, True), (400, False)])
def test_a_counterexample_of_a_page_is_not_shown_whole_to_people(entries, whole):
    example = f"at x = {[7] * entries}: dx[0] is 1, but the derivative is 2"
    verdict = Verdict("dx", Word.DISPROVED, "wrong", counterexample=example)
    files = [Checked(FileReport("a.py", [PairReport("a", [verdict])]))]
    written = formats.text(files, Level.EXACT)
    assert "dx[0] is 1, but the derivative is 2" in written
    assert ("x = [7, 7" in written) == whole
    assert ("--format json" in written) != whole
    assert example in formats.json(files, Level.EXACT)
