import base64
import csv
import io
import json
import math
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from tests.cli.conftest import CLASSES, environment

import xhat as library
from xhat import datasets, kernels, verify
from xhat.cli import machine

FILES = ["curves.png", "history.csv", "model.safetensors", "report.html"]
SHORT = ("--epochs", "3", "--hidden", "8", "--batch-size", "16")


class Page(HTMLParser):
    """What a page shows and what it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data):
        self.words.append(data)


def read_history(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def parameters(path):
    return {name: values.copy() for name, values in library.load(path).parameters.items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_a_run_leaves_everything_in_its_folder(xhat, species, folder):
    done = xhat("train", "species.csv", "--target", "species", *SHORT)
    assert done.code == 0, done.err
    assert done.err == ""
    runs = folder / "runs" / "species"
    assert sorted(path.name for path in runs.iterdir()) == FILES

    rows = read_history(runs / "history.csv")
    assert [(row["network"], row["epoch"]) for row in rows] == [("batch norm", str(n)) for n in (1, 2, 3)]
    for row in rows:
        numbers = [float(value) for name, value in row.items() if name != "network"]
        assert all(map(math.isfinite, numbers))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])

    picture = imread(runs / "curves.png")
    assert picture.shape[:2] == (680, 1600)
    assert picture[..., :3].std() > 0.05

    network = library.load(runs / "model.safetensors")
    assert network.features == ("length", "width")
    assert network.classes == tuple(sorted(CLASSES))
    assert network.notes["target"] == "species"


def test_the_screen_shows_check_epochs_and_results(xhat, species):
    out = xhat("train", "species.csv", "--target", "species", *SHORT).out
    assert "species: 2 features, 2 classes; rows: 58 training, 6 validation, 16 test" in out
    check = out[out.index("Gradient check: batch norm") : out.index("   epoch")]
    assert re.search(r"1\.w +2 × 8 .*ok", check)
    assert check.count(" ok") == 6  # two affine weights, a bias, gamma, beta and x
    assert re.findall(r"^ +(\d)/3 ", out, re.MULTILINE) == ["1", "2", "3"]
    results = out[out.index("Results: accuracy") :]
    assert re.search(r"train +validation +test +seconds +samples/s", results)
    assert re.search(r"batch norm( +[\d.]+ %){3} +[\d.]+ +[\d,]+", results)
    written = f"Written to {Path('runs/species')}: {', '.join(FILES)}"
    assert written in results
    assert max(map(len, out.replace(written, "").splitlines())) <= 80


def test_the_report_is_one_page_that_loads_nothing(xhat, species):
    assert xhat("train", "species.csv", "--target", "species", *SHORT).code == 0
    path = Path("runs/species/report.html")
    page = Page(path)
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", path.read_text(encoding="utf-8"))
    for name in CLASSES:
        assert name in page.text
    for told in (
        "species · batch norm", "test accuracy", "BatchNorm(channels=8", "Gradient check", "--learning-rate",
        "numpy", "58", "Confusion on the test data", "xhat train species.csv --target species --hidden 8",
    ):  # fmt: skip
        assert told in page.text


def test_the_confusion_matrix_counts_the_test_rows(xhat, species):
    xhat("train", "species.csv", "--target", "species", *SHORT)
    html = Path("runs/species/report.html").read_text(encoding="utf-8")
    table = html[html.index('<table class="confusion">') :]
    counts = [int(n) for n in re.findall(r"<td style=[^>]*>(\d+)</td>", table[: table.index("</table>")])]
    data = datasets.load("species.csv", target="species")
    said = library.load("runs/species/model.safetensors").predict(data.x_test).argmax(1)
    wanted = np.zeros((2, 2), int)
    np.add.at(wanted, (data.y_test, said), 1)
    assert counts == wanted.ravel().tolist()


def test_runs_never_overwrite_each_other(xhat, species):
    for name in ("species", "species-2", "species-3"):
        assert f"Written to {Path('runs', name)}:" in xhat("train", "species.csv", "--target", "species", *SHORT).out


def test_a_folder_that_holds_something_is_refused(xhat, species, folder):
    kept = folder / "mine"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    done = xhat("train", "species.csv", "--target", "species", "--out", "mine", *SHORT)
    assert done.code == 1
    assert done.err == (
        "xhat train: expected --out as a new or empty folder, got mine with 1 entries. "
        "Choose another, or leave --out away for the next free runs/NAME.\n"
    )
    assert [path.name for path in kept.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_is_refused_before_training(xhat, species):
    done = xhat("train", "species.csv", "--target", "species", "--out", "species.csv/run", *SHORT)
    assert done.code == 1
    assert done.err == (
        f"xhat train: expected a folder to write to, got {Path('species.csv/run')} (Not a directory). "
        "Choose another with --out.\n"
    )
    assert "epoch" not in done.out


def test_the_same_command_gives_the_same_bits(xhat, species):
    words = ("train", "species.csv", "--target", "species", "--dropout", "0.3", "--l2", "1e-3", *SHORT)
    for seed in ("1", "1", "2"):
        assert xhat(*words, "--seed", seed).code == 0
    first, again, other = (parameters(f"runs/species{end}/model.safetensors") for end in ("", "-2", "-3"))
    assert_equal(first, again)
    assert any((values != other[name]).any() for name, values in first.items())


@pytest.mark.parametrize(
    "changed",
    [
        "--seed 1", "--dropout 0.5", "--l2 1", "--learning-rate 0.1", "--optimizer sgd", "--schedule constant",
        "--batch-size 8", "--validation 0.4", "--epochs 2", "--norm none",
    ],
)  # fmt: skip
def test_every_option_matters(xhat, species, changed):
    words = ("train", "species.csv", "--target", "species", *SHORT)
    assert xhat(*words).code == 0
    assert xhat(*words, *changed.split()).code == 0
    first, other = (parameters(f"runs/species{end}/model.safetensors") for end in ("", "-2"))
    assert (first["1.w"] != other["1.w"]).any()


def test_the_command_in_the_report_repeats_the_run(xhat, species):
    xhat(
        "train", "species.csv", "--target", "species", *SHORT, "--norm", "layer", "--seed", "5",
        "--optimizer", "momentum", "--learning-rate", "0.05", "--schedule", "step", "--patience", "2",
        "--out", "first",
    )  # fmt: skip
    command = library.load("first/model.safetensors").notes["command"]
    assert command in Page(Path("first/report.html")).text
    program, *words = shlex.split(command)
    assert program == "xhat"
    assert xhat(*words, "--out", "second").code == 0
    assert_equal(parameters("first/model.safetensors"), parameters("second/model.safetensors"))


def test_compare_trains_both_alike_and_tells_of_both(xhat, species):
    words = ("train", "species.csv", "--target", "species", *SHORT)
    done = xhat(*words, "--compare", "none")
    assert done.code == 0
    runs = Path("runs/species")
    assert sorted(path.name for path in runs.iterdir()) == sorted([*FILES, "model-none.safetensors"])
    labels = ["batch norm"] * 3 + ["no norm"] * 3
    assert [row["network"] for row in read_history(runs / "history.csv")] == labels
    results = done.out[done.out.index("Results") :]
    assert re.search(r"^batch norm .*\n^no norm ", results, re.MULTILINE)
    text = Page(runs / "report.html").text
    assert "species · batch norm and no norm" in text
    assert "test accuracy, no norm" in text
    assert "Network: no norm" in text

    assert xhat(*words).code == 0
    assert xhat(*words, "--norm", "none").code == 0
    assert_equal(parameters(runs / "model.safetensors"), parameters("runs/species-2/model.safetensors"))
    assert_equal(parameters(runs / "model-none.safetensors"), parameters("runs/species-3/model.safetensors"))


def test_a_regression_predicts_in_the_unit_of_its_target(xhat, prices):
    done = xhat("train", "prices.csv", "--target", "price")
    assert done.code == 0, done.err
    assert "Results: R²" in done.out
    data = datasets.load("prices.csv", target="price")
    network = library.load("runs/prices/model.safetensors")
    assert network.evaluate(data.x_test, data.y_test).score > 0.9
    assert abs(network.predict(data.x_test).mean() / data.y_test.mean() - 1) < 0.05
    page = Page(Path("runs/prices/report.html"))
    assert "Predictions on the test data" in page.text
    assert page.tags.count("img") == 2


def test_the_defaults_learn_the_digits_and_show_mistakes(xhat):
    assert xhat("train", "digits").code == 0
    data = datasets.load("digits")
    network = library.load("runs/digits/model.safetensors")
    assert network.evaluate(data.x_test, data.y_test).score >= 0.97
    wrong = int((network.predict(data.x_test).argmax(1) != data.y_test).sum())
    page = Page(Path("runs/digits/report.html"))
    assert page.tags.count("figure") == wrong > 0
    curves, *mistakes = (base64.b64decode(link.partition(",")[2]) for link in page.links)
    assert curves == Path("runs/digits/curves.png").read_bytes()
    assert len(mistakes) == wrong
    for picture in mistakes:
        pixels = imread(io.BytesIO(picture))
        assert pixels.shape[:2] == (8, 8)
        assert pixels[..., :3].std() > 0.1


def test_mistakes_on_colour_pictures_are_shown_in_colour(xhat, folder):
    x = np.zeros((40, 3, 4, 5), np.float32)
    x[:, 0] = np.random.default_rng(0).uniform(180, 200, (40, 4, 5))  # reds that tell nothing of the label
    np.savez(folder / "red.npz", x=x, y=np.arange(40) % 2)
    assert xhat("train", "red.npz", *SHORT).code == 0
    _, *mistakes = Page(Path("runs/red/report.html")).links
    assert mistakes
    pixels = imread(io.BytesIO(base64.b64decode(mistakes[0].partition(",")[2])))
    assert pixels.shape[:2] == (4, 5)
    assert pixels[..., 0].min() > 0.85
    assert pixels[..., 1:3].max() == 0


def test_equal_rows_are_refused(xhat, folder):
    (folder / "equal.csv").write_text("a,b,y\n" + "1,2,one\n1,2,two\n" * 20)
    done = xhat("train", "equal.csv", "--target", "y", *SHORT)
    assert (done.code, done.err) == (
        1,
        "xhat train: expected rows that differ to train on, got 30 equal ones. Check the data.\n",
    )
    assert not Path("runs/equal").exists()


def test_gradients_are_checked_on_rows_that_differ(xhat, folder):
    rows = ["1,2,one", "1,2,two"] * 200 + ["3,4,one", "3,5,two"] * 2
    (folder / "rare.csv").write_text("\n".join(["a,b,y", *rows]))
    done = xhat("train", "rare.csv", "--target", "y", *SHORT)
    assert done.code == 0, done.err


def test_patience_ends_early(xhat, species):
    words = ("train", "species.csv", "--target", "species", "--hidden", "8", "--batch-size", "16")
    assert xhat(*words, "--epochs", "200", "--patience", "2").code == 0
    epochs = read_history(Path("runs/species/history.csv"))
    assert 3 <= len(epochs) < 200
    assert "after its best epoch" in Page(Path("runs/species/report.html")).text


def test_without_validation(xhat, species):
    done = xhat("train", "species.csv", "--target", "species", *SHORT, "--validation", "0")
    assert done.code == 0
    assert "rows: 64 training, 16 test" in done.out
    assert re.search(r"train +test", done.out)
    assert read_history(Path("runs/species/history.csv"))[0]["validation_loss"] == "nan"


def test_threads_are_set_for_kernels_and_blas(xhat, species, monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(machine, "use_threads", asked.append)
    assert xhat("train", "species.csv", "--target", "species", *SHORT, "--threads", "1").code == 0
    assert asked == [1]


def test_use_threads():
    before = kernels.get_num_threads()
    try:
        for count in (2, 1):
            machine.use_threads(count)
            assert kernels.get_num_threads() == (count if kernels.VARIANTS[1:] else 1)
            assert {library.threads for library in machine.blas()} == {count}
    finally:
        kernels.set_num_threads(before)


def test_a_wrong_gradient_stops_before_training(xhat, species, folder, monkeypatch):
    right = verify.check_network

    def broken(network, x, targets, *, l2, rng):
        assert (len(x), l2, rng) == (16, 0.5, 3)
        check = right(network, x, targets, l2=l2, rng=rng)
        return check._replace(rows=(check.rows[0]._replace(ok=False), *check.rows[1:]))

    monkeypatch.setattr(verify, "check_network", broken)
    done = xhat("train", "species.csv", "--target", "species", "--l2", "0.5", "--seed", "3", *SHORT)
    assert done.code == 1
    assert done.err == (
        "xhat train: expected the gradients of the network to be right, got wrong ones for 1.w. "
        "Nothing was trained; report this network as a bug.\n"
    )
    assert "WRONG" in done.out
    assert "1/3" not in done.out
    assert not (folder / "runs" / "species").exists()


def test_a_loss_that_explodes_is_told_in_one_line(xhat, species):
    words = ("train", "species.csv", "--target", "species", "--norm", "none", "--optimizer", "sgd")
    with np.errstate(all="ignore"):
        done = xhat(*words, "--learning-rate", "1e30", *SHORT)
    assert done.code == 1
    assert done.err.startswith("Trainer.fit: expected a finite loss, got ")
    assert done.err.count("\n") == 1
    assert not Path("runs/species").exists()


def test_an_error_of_our_own_keeps_its_traceback(xhat, species, monkeypatch):
    monkeypatch.setattr(library, "Standardize", None)
    with pytest.raises(AttributeError):
        xhat("train", "species.csv", "--target", "species", *SHORT)


def test_notes_hold_what_predict_needs(xhat, species):
    xhat("train", "species.csv", "--target", "species", *SHORT)
    notes = library.load("runs/species/model.safetensors").notes
    assert json.loads(json.dumps(notes)) == notes
    assert set(notes) == {"data", "target", "command"}


def test_the_saved_model_is_the_one_that_was_judged(xhat, tmp_path):
    """Also where float32 cannot hold the digits of the target or of a feature."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 400))
    rows = [f"{1.7e9 + 20 * p!r},{q!r},{1e9 + 3 * p - q!r}" for p, q in zip(a.tolist(), b.tolist(), strict=True)]
    table = tmp_path / "big.csv"
    table.write_text("\n".join(["t,b,y", *rows]))
    done = xhat(
        "train", str(table), "--target", "y", "--hidden", "32", "--epochs", "30", "--out", str(tmp_path / "run")
    )
    assert done.code == 0, done.err
    shown = [float(word) for word in re.search(r"batch norm (.*)", done.out).group(1).split()[:3]]
    assert min(shown) > 0.95
    judged = xhat("predict", str(tmp_path / "run" / "model.safetensors"), str(table))
    assert float(re.search(r"R² ([-.0-9]+)", judged.out).group(1)) == pytest.approx(sum(shown) / 3, abs=0.02)


def test_the_users_own_empty_folder_stays_after_a_refusal(xhat, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    assert xhat("train", "digits", "--learning-rate", "0", "--out", str(mine)).code == 2
    assert mine.exists()


@pytest.mark.parametrize("target", ["| head -1", "> /dev/full"])
def test_a_reader_that_goes_away_costs_nothing(tmp_path, species, target):
    command = f"{sys.executable} -m xhat train {species} --target species --epochs 3 --out {tmp_path / 'run'} {target}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment())
    assert "Traceback" not in done.stderr
    assert {file.name for file in (tmp_path / "run").iterdir()} >= {"model.safetensors", "history.csv", "report.html"}
