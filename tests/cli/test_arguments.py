import pytest
from tests.cli.conftest import PROGRAM

from xhat.networks import NORMALIZATIONS
from xhat.training import OPTIMIZERS

HELP = "See xhat train --help."
WRONG = [
    (
        ("train", "digits", "--norm", "bach"), 2,
        "xhat train: Invalid value for '--norm': 'bach' is not one of "
        f"{', '.join(map(repr, [*NORMALIZATIONS, 'none']))}. {HELP}",
    ),
    (
        ("train", "digits", "--optimizer", "bfgs"), 2,
        "xhat train: Invalid value for '--optimizer': 'bfgs' is not one of "
        f"{', '.join(map(repr, OPTIMIZERS))}. {HELP}",
    ),
    (
        ("train", "digits", "--schedule", "up"), 2,
        "xhat train: Invalid value for '--schedule': 'up' is not one of 'constant', 'cosine', 'step'. "
        + HELP,
    ),
    (
        ("train", "digits", "--compare", "batch"), 2,
        "xhat train: expected --compare to differ from --norm, got batch twice. Change one.",
    ),
    (
        ("train", "digits", "--hidden", "64;x"), 2,
        "xhat train: expected --hidden as widths with commas between them, got '64;x'. "
        "Give 256,256 for two layers, or none.",
    ),
    (
        ("train", "digits", "--hidden", "64,0"), 2,
        "xhat train: expected --hidden as widths with commas between them, got '64,0'. "
        "Give 256,256 for two layers, or none.",
    ),
    (
        ("train", "digits", "--learning-rate", "0"), 2,
        "Trainer: expected learning_rate > 0 and finite, got 0.0. The usual one for Adam is 1e-3.",
    ),
    (
        ("train", "absent.csv", "--target", "y"), 1,
        "datasets.load: expected a file or folder 'absent.csv', got none. Correct the path; "
        "it starts from the current folder.",
    ),
    (
        ("train", "species.csv", "--target", "specie"), 1,
        "datasets.load: expected target, the column of species.csv to predict, got 'specie'. "
        "Did you mean 'species'? Choose one of 'length', 'width', 'species'.",
    ),
    (
        ("predict", "absent.safetensors", "digits"), 1,
        "load: expected a file that xhat.save wrote, got no file absent.safetensors. Check the path.",
    ),
]  # fmt: skip


# The middle is Typer's own and differs between its versions.
MISTYPED = [
    (("train",), "xhat train: Missing argument 'DATA'", HELP),
    (("tarin",), "xhat: No such command 'tarin'", "See xhat --help."),
    (("train", "digits", "--epoch", "3"), "xhat train: No such option: --epoch", HELP),
    (("train", "digits", "--epochs", "0"), "xhat train: Invalid value for '--epochs': ", HELP),
    (("train", "digits", "--dropout", "2"), "xhat train: Invalid value for '--dropout': ", HELP),
    (("train", "digits", "--batch-size", "many"), "xhat train: Invalid value for '--batch-size': ", HELP),
    (("predict", "model"), "xhat predict: Missing argument 'DATA'", "See xhat predict --help."),
]


@pytest.mark.parametrize(("words", "begin", "end"), MISTYPED, ids=[" ".join(words) for words, _, _ in MISTYPED])
def test_what_is_mistyped_is_said_in_one_line(xhat, words, begin, end):
    done = xhat(*words)
    assert done.code == 2
    assert done.err.startswith(begin)
    assert done.err.endswith(f" {end}\n")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(("words", "code", "text"), WRONG, ids=[" ".join(words) for words, _, _ in WRONG])
def test_what_is_wrong_is_said_in_one_line(xhat, species, words, code, text):
    done = xhat(*words)
    assert (done.code, done.err) == (code, f"{text}\n")
    assert not list(species.parent.glob("runs/*"))


def test_alone_it_prints_help(xhat):
    done = xhat()
    assert done.code == 0
    for command in ("train", "predict", "info", "Exit codes"):
        assert command in done.out


@pytest.mark.parametrize("command", [(), ("train",), ("predict",), ("info",)])
def test_help(xhat, command):
    done = xhat(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert "Usage: xhat" in done.out


def test_version_loads_little(start):
    program = (
        "import sys; from xhat.cli import main; code = main(); "
        "print(sorted({'matplotlib', 'sklearn', 'pandas', 'pyarrow'} & sys.modules.keys())); sys.exit(code)"
    )
    out, err = start("--version", program=program).communicate(timeout=60)
    assert err == ""
    version, loaded = out.splitlines()
    assert version.startswith("xhat ")
    assert loaded == "[]"


@pytest.mark.parametrize("package", ["typer", "rich", "matplotlib"])
def test_a_missing_extra_is_told_in_one_line(start, species, package):
    program = f"import sys; sys.modules[{package!r}] = None; {PROGRAM}"
    process = start("train", "species.csv", "--target", "species", program=program)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == f'xhat: expected the package {package}, got none. Run: pip install "xhat[cli]"\n'
