"""`xhat explain`: the numbers it shows, the drawing, and what it refuses."""

import html.parser
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from xhat import batch_norm
from xhat.cli import drawing
from xhat.cli.drawing import Walk, draw, page, write_array
from xhat.graph import Edge, Graph, Step

DOCS = Path(__file__).parents[2] / "docs"
BY_HAND = ("--x", "1 0; 3 8", "--gamma", "7 2", "--beta", "10, 20", "--dy", "49 0; 0 16", "--eps", "48")
SVG = "{http://www.w3.org/2000/svg}"


def walk(shape, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {"x": rng.standard_normal(shape), "gamma": rng.standard_normal(shape[1]), "beta": np.zeros(shape[1])}
    nodes = batch_norm.steps(**inputs)
    back = nodes.backward(rng.standard_normal(shape))
    return Walk(batch_norm.GRAPH, "a <test>", inputs | dict(nodes), dict(back))


def row(out, name):
    """The lines of a table that belong to a node."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == [name])
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith("  ")), len(lines))
    return "\n".join(lines[start:end])


def test_the_example_worked_out_by_hand(xhat):
    done = xhat("explain", "batch_norm", *BY_HAND)
    assert (done.code, done.err) == (0, "")
    for name, told in {
        "mean": ["sum(x) / N", "2 4", "The centre of each column."],
        "centred": ["x - mean", "-1 -4", "1  4"],
        "variance": ["1 16"],
        "root": ["7 8"],
        "inverse": ["0.143 0.125"],
        "y": ["9 19", "11 21"],
        "dy": ["49  0", "0 16", "given"],
        "dgamma": ["-7  8", "Slope of scaled in gamma: x_hat"],
        "droot": ["-dinverse / root**2", "7 -2"],
        "dsquared": ["0.2500 -0.0625"],
        "dcentred": ["48.5 0.5", "Used by squared and x_hat"],
        "dmean": ["-49  -4"],
        "dx": ["24.0 -1.5", "-24.0  1.5"],
    }.items():
        shown = " ".join(row(done.out, name).split())
        for words in told:
            assert " ".join(words.split()) in shown, (name, words)


def test_every_node_and_gradient_is_there_and_fits_the_screen(xhat):
    done = xhat("explain", "batch_norm")
    assert done.code == 0
    table = done.out.partition("\nForward\n")[2].splitlines()
    first = [line.split()[0] for line in table if line and not line.startswith(" ")]
    names = [*batch_norm.GRAPH.inputs, *(step.name for step in batch_norm.GRAPH.steps)]
    names += ["dy", *(term.name for term in batch_norm.GRAPH.backward())]
    assert [name for name in first if name in names] == names
    assert all(len(line) <= 80 for line in done.out.splitlines())


def test_a_seed_draws_the_same_again(xhat):
    one, same, other = (xhat("explain", "batch_norm", "--seed", seed).out for seed in "112")
    assert one == same != other
    assert "x of 5 × 2, drawn at random; eps = 0" in xhat("explain", "batch_norm", "--shape", "5x2", "--eps", "0").out


def test_what_is_large_is_summed_up(xhat):
    done = xhat("explain", "batch_norm", "--shape", "1000x64", "--html", "large.html")
    assert done.code == 0
    assert "1000 × 64" in row(done.out, "x_hat")
    assert re.search(r"min +-\d.*\n.*mean +-?0\.0+ *\n.*max +\d", row(done.out, "x_hat"))
    assert len(done.out) < 10_000
    assert Path("large.html").stat().st_size < 40_000


def test_input_from_files(xhat, folder):
    values = np.array([[1.0, 0.0], [3.0, 8.0]])
    np.savetxt("x.csv", values, delimiter=",", header="height,width", comments="")
    np.save("x.npy", values)
    np.savez("x.npz", x=values)
    for name in ("x.csv", "x.npy", "x.npz"):
        done = xhat("explain", "batch_norm", "--data", name, *BY_HAND[2:])
        assert (done.code, done.err) == (0, "")
        assert f"x of 2 × 2 from {name}; eps = 48" in done.out
        assert "7 8" in row(done.out, "root")


def test_the_page_needs_nothing_else(xhat):
    done = xhat("explain", "batch_norm", *BY_HAND, "--html", "out.html", "--svg", "out.svg")
    assert done.code == 0
    assert done.out.endswith("\nWritten to out.html\nWritten to out.svg\n")
    text = Path("out.html").read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert "<script" not in text
    assert "prefers-color-scheme: dark" in text
    for step in batch_norm.GRAPH.steps:
        assert step.why in text
        assert all(html.escape(edge.why) in text for edge in step.edges)
    tags = []

    class Balanced(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta",):
                tags.append(tag)

        def handle_endtag(self, tag):
            assert tags.pop() == tag

        def handle_startendtag(self, tag, attributes):
            pass

    parser = Balanced()
    parser.feed(text)
    assert tags == []
    ElementTree.fromstring(Path("out.svg").read_text(encoding="utf-8"))


def test_the_tables_of_the_page_hold_the_numbers():
    told = walk((4, 3))
    found = re.findall(r"<tr class=.+?><td><code>(\w+)</code>.*?<pre.*?>(.+?)</pre>", page(told), re.DOTALL)
    names = [*told.graph.inputs, *(step.name for step in told.graph.steps)]
    forward = [(name, "\n".join(write_array(told.values[name]).lines)) for name in names]
    assert found == forward + [(name, "\n".join(write_array(values).lines)) for name, values in told.gradients.items()]


def test_names_from_outside_are_only_text(xhat, folder):
    name = "<img src=x onerror=alert(1)>.csv"
    Path(name).write_text("a,b\n1,0\n3,8\n")
    assert xhat("explain", "batch_norm", "--data", name, "--html", "out.html").code == 0
    text = Path("out.html").read_text()
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.csv" in text


def test_the_picture_in_the_docs_is_what_the_command_draws(xhat):
    assert xhat("explain", "batch_norm", *BY_HAND, "--svg", "out.svg").code == 0
    drawn, kept = Path("out.svg").read_text(), (DOCS / "batch_norm_steps.svg").read_text()
    assert drawn == kept
    words = re.search(
        r"xhat (explain batch_norm .+) --svg docs/batch_norm_steps.svg", (DOCS / "batch_norm_steps.md").read_text()
    )
    assert words
    assert " ".join(BY_HAND).replace(",", "") == words[1].removeprefix("explain batch_norm ").replace('"', "")


def test_the_table_in_the_docs_is_the_graph():
    text = (DOCS / "batch_norm_steps.md").read_text()
    for step in batch_norm.GRAPH.steps:
        assert f"| {step.name} | `{step.formula}` |" in text
    for term in batch_norm.GRAPH.backward():
        assert f"`{term.name} = {term.formula}`" in text
    for edge in (edge for step in batch_norm.GRAPH.steps for edge in step.edges):
        assert f"`{edge.slope}`" in text


@pytest.mark.parametrize("shape", [(2, 1), (4, 3), (8, 6), (9, 2), (2, 7), (10_000, 100)], ids=str)
def test_nothing_overlaps_in_the_drawing(shape):
    boxes = list(drawing._lay_out(walk(shape)).values())
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            apart = one.right + 10 <= other.x or other.right + 10 <= one.x
            assert apart or one.y + one.height + 10 <= other.y or other.y + other.height + 10 <= one.y
    root = ElementTree.fromstring(draw(walk(shape)))
    width = float(root.get("width"))
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        left, top, wide, high = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= left < left + wide <= width
        lines = []
        for text in group.findall(f"{SVG}text"):
            if "told" in text.get("class", ""):
                continue
            letter = 8.0 if "name" in text.get("class", "") else drawing._LETTER
            x, y, long = float(text.get("x")), float(text.get("y")), letter * len(text.text)
            start = x - long if text.get("text-anchor") == "end" else x
            assert left < start
            assert start + long <= left + wide, f"{text.text} leaves its box"
            assert top + 10 <= y <= top + high - 4, f"{text.text} leaves its box"
            lines.append((y, start, start + long))
        for one, other in zip(sorted(lines), sorted(lines)[1:], strict=False):
            assert other[0] - one[0] >= 11 or one[2] <= other[1] or other[2] <= one[1], "lines overlap"


def test_arrows_go_right_from_a_source_to_its_step():
    told = walk((4, 3))
    boxes = drawing._lay_out(told)
    paths = [
        path.get("d") for path in ElementTree.fromstring(draw(told)).iter(f"{SVG}path") if path.get("class") == "edge"
    ]
    wanted = [(edge.source, step.name) for step in told.graph.steps for edge in step.edges]
    assert len(paths) == len(wanted)
    for path, (source, step) in zip(paths, wanted, strict=True):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
        one, other = boxes[source], boxes[step]
        assert one.x <= numbers[0] <= one.right
        assert other.x - 2 <= numbers[-2] <= other.right
        assert numbers[0] < numbers[-2]
        assert min(abs(numbers[-1] - edge) for edge in (other.y, other.y + other.height, other.y + 40)) <= 2


def test_hovering_tells_every_rule():
    text = draw(walk((4, 3)))
    for term in batch_norm.GRAPH.backward():
        assert f"{term.name} = {term.formula}" in text
    for step in batch_norm.GRAPH.steps:
        assert f"{step.name} = {step.formula}     {step.why}" in text
    still = draw(walk((4, 3)), told=False)
    assert "Point at" not in still
    assert 'class="told' not in still


def test_another_graph_is_only_data():
    """y = w x + x: a graph that this repository does not have is drawn, told and tabled by the same code."""
    graph = Graph(
        "toy",
        {"x": ("N", "D"), "w": ("D",)},
        (
            Step(
                "p",
                "w * x",
                ("N", "D"),
                "Scale.",
                (Edge("w", "x", "sum(x * dp)", "A product."), Edge("x", "w", "w * dp", "A product.")),
            ),
            Step("y", "p + x", ("N", "D"), "Add.", (Edge("p", "1", "dy", "A sum."), Edge("x", "1", "dy", "A sum."))),
        ),
    )
    assert [term.name for term in graph.backward()] == ["dp", "dx_via_y", "dw", "dx_via_p", "dx"]
    assert [term.formula for term in graph.backward()][-1] == "dx_via_y + dx_via_p"
    x, w = np.ones((2, 2)), np.array([2.0, 3.0])
    values = {"x": x, "w": w, "p": w * x, "y": w * x + x}
    gradients = {"dy": x, "dp": x, "dx_via_y": x, "dw": 2 * w / w, "dx_via_p": w * x, "dx": x + w * x}
    ElementTree.fromstring(draw(Walk(graph, "", values, gradients)))
    assert "toy in 2 steps" in page(Walk(graph, "", values, gradients))


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ([[1.0, -2.0], [30.0, 4.0]], (" 1 -2", "30  4")),
        ([0.5, 0.25], ("0.50 0.25",)),
        ([1 / 3, -2 / 3], (" 0.333 -0.667",)),
        ([1234.5678, 0.0], ("1235    0",)),
        ([1e-9, 2e-9], ("1.0e-09 2.0e-09",)),
        ([1e7, 1.0], ("1.0e+07 1.0e+00",)),
        ([-0.0, 0.0], ("0 0",)),
        ([np.nan, np.inf, 1.5], ("nan inf 1.5",)),
        (np.zeros((0, 3)), ("none",)),
    ],
)  # fmt: skip
def test_how_numbers_are_written(values, lines):
    assert write_array(np.array(values)).lines == lines


WRONG = [
    (
        ("layer_norm",), 2,
        "xhat explain: expected a layer whose steps are written down, got 'layer_norm'. Choose one of: batch_norm.",
    ),
    (
        ("batch_norm", "--x", "1 2; 3"), 2,
        "xhat explain: expected --x as numbers, with semicolons between rows of equal length, got '1 2; 3'. "
        'Give "1 2; 3 4", say.',
    ),
    (
        ("batch_norm", "--dy", "a b"), 2,
        "xhat explain: expected --dy as numbers, with semicolons between rows of equal length, got 'a b'. "
        'Give "1 2; 3 4", say.',
    ),
    (
        ("batch_norm", "--x", "1 2; 3 4", "--shape", "2x2"), 2,
        "xhat explain: expected one of --x, --data and --shape, got several. Choose one.",
    ),
    (
        ("batch_norm", "--shape", "4"), 2,
        "xhat explain: expected --shape as rows x columns, got '4'. Give 4x3, say.",
    ),
    (
        ("batch_norm", "--shape", "1x3"), 2,
        "batch_norm.steps: expected at least 2 rows in x, got 1. One value has no spread: use a larger batch.",
    ),
    (
        ("batch_norm", "--gamma", "1 2; 3 4"), 2,
        "xhat explain: expected --gamma as one row of numbers, got 2 rows. Leave one.",
    ),
    (
        ("batch_norm", "--gamma", "1 2"), 2,
        "batch_norm.steps: expected gamma of shape (3,), got (2,). Give gamma and beta one entry per column of x.",
    ),
    (
        ("batch_norm", "--x", "1 2; 1 4", "--eps", "0"), 2,
        "batch_norm.steps: expected columns that vary, or eps > 0, got a variance of 0 in column 0. "
        "Give an eps such as 1e-5: the step 1 / root needs it.",
    ),
    (
        ("batch_norm", "--eps", "-1"), 2,
        "xhat explain: expected eps >= 0 and finite, got -1.0. "
        "The eps is added to a variance (unit of x squared); 1e-5 is usual.",
    ),
    (
        ("batch_norm", "--data", "absent.csv"), 1,
        "datasets.load: expected a file or folder 'absent.csv', got none. Correct the path; "
        "it starts from the current folder.",
    ),
    (
        ("batch_norm", "--data", "digits"), 1,
        "datasets.read_matrix: expected a file of numbers, got 'digits'. Give a .csv, .tsv, .parquet, .npz or .npy file.",
    ),
    (
        ("batch_norm", "--data", "broken.npy"), 1,
        "datasets.load: expected an .npy file of numbers in broken.npy, got ",
    ),
    (
        ("batch_norm", "--html", "absent/out.html"), 1,
        "xhat explain: expected a file to write to, got absent/out.html (No such file or directory). "
        "Choose another with --html.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "text"), WRONG, ids=[" ".join(words) for words, _, _ in WRONG])
def test_what_is_wrong_is_said_in_one_line(xhat, words, code, text):
    Path("broken.npy").write_bytes(b"\x93NUMPY\x01\x00nothing")
    done = xhat("explain", *words)
    assert done.code == code
    assert done.err.startswith(text)
    assert done.err.count("\n") == 1


def test_an_npy_file_that_could_run_code_is_refused(xhat):
    np.save("objects.npy", np.array([[print, 1]], object), allow_pickle=True)
    done = xhat("explain", "batch_norm", "--data", "objects.npy")
    assert done.code == 1
    assert "expected an .npy file of numbers in objects.npy, got " in done.err


def test_help(xhat):
    done = xhat("explain", "--help")
    assert (done.code, done.err) == (0, "")
    assert "Usage: xhat explain" in done.out
    assert "explain" in xhat().out
