import csv

import numpy as np
import pytest

import xhat as library
from xhat import datasets

MODEL = "run/model.safetensors"


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def model(xhat, species):
    words = ("--target", "species", "--hidden", "8", "--batch-size", "16", "--epochs", "8", "--out", "run")
    assert xhat("train", "species.csv", *words).code == 0
    return library.load(MODEL)


def test_classes_come_with_probabilities_and_accuracy(xhat, species, model):
    done = xhat("predict", MODEL, "species.csv", "--out", "said.csv")
    assert (done.code, done.err) == (0, "")
    x, y = datasets.read_features("species.csv", model.features, target="species", classes=model.classes)
    scores = model.predict(x).astype(float)
    wanted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)

    rows = read("said.csv")
    assert list(rows[0]) == ["row", "prediction", *(f"p({name})" for name in model.classes), "true"]
    assert [row["row"] for row in rows] == [str(i) for i in range(1, 81)]
    chances = np.array([[float(row[f"p({name})"]) for name in model.classes] for row in rows])
    np.testing.assert_allclose(chances, wanted, rtol=1e-5)
    assert [row["prediction"] for row in rows] == [model.classes[i] for i in wanted.argmax(1)]
    assert [row["true"] for row in rows] == [model.classes[i] for i in y]

    right = 100 * float((wanted.argmax(1) == y).mean())
    assert f"accuracy {right:.2f} %, loss " in done.out
    assert "… and 70 more rows." in done.out
    assert "[red]$x_1$[/red]" in done.out.replace("\n", "")


def test_columns_are_found_by_name(xhat, species, model):
    with open("species.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open("shuffled.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["colour", "width", "length"], extrasaction="ignore", restval="red")
        writer.writeheader()
        writer.writerows(rows)
    for data in ("species", "shuffled"):
        assert xhat("predict", MODEL, f"{data}.csv", "--out", f"{data}-said.csv").code == 0
    known, unknown = read("species-said.csv"), read("shuffled-said.csv")
    assert [row["prediction"] for row in known] == [row["prediction"] for row in unknown]
    assert "true" not in unknown[0]


def test_without_true_values_nothing_is_scored(xhat, species, model):
    with open("new.csv", "w") as file:
        file.write("length,width\n0.1,0.2\n3.0,2.9\n")
    done = xhat("predict", MODEL, "new.csv")
    assert done.code == 0
    assert "accuracy" not in done.out
    assert "more rows" not in done.out


def test_values_of_a_regression(xhat, prices):
    words = ("--target", "price", "--hidden", "8", "--epochs", "3", "--out", "run")
    assert xhat("train", "prices.csv", *words).code == 0
    done = xhat("predict", MODEL, "prices.csv", "--out", "said.csv")
    assert done.code == 0
    rows = read("said.csv")
    assert list(rows[0]) == ["row", "prediction", "true"]
    data = datasets.read_features("prices.csv", ("size", "age"), target="price")
    network = library.load(MODEL)
    np.testing.assert_array_equal([float(row["prediction"]) for row in rows], network.predict(data[0]).ravel())
    np.testing.assert_array_equal([float(row["true"]) for row in rows], data[1].ravel())
    assert f"R² {network.evaluate(*data).score:.4f}" in done.out


def test_a_known_data_set_gives_its_test_rows(xhat):
    assert xhat("train", "digits", "--epochs", "1", "--out", "run").code == 0
    done = xhat("predict", MODEL, "digits", "--out", "said.csv")
    assert done.code == 0
    assert len(read("said.csv")) == len(datasets.load("digits").x_test)


@pytest.mark.parametrize("name", [MODEL, "species.csv"])
def test_inputs_are_not_overwritten(xhat, species, model, name):
    with open(name, "rb") as file:
        before = file.read()
    done = xhat("predict", MODEL, "species.csv", "--out", name)
    assert done.code == 2
    assert done.err == f"xhat predict: expected --out apart from the inputs, got {name}. Choose another file.\n"
    with open(name, "rb") as file:
        assert file.read() == before


def test_a_file_that_cannot_be_written(xhat, species, model):
    done = xhat("predict", MODEL, "species.csv", "--out", "absent/said.csv")
    assert done.code == 1
    assert done.err == (
        "xhat predict: expected a file to write to, got absent/said.csv (No such file or directory). "
        "Choose another with --out.\n"
    )


def test_a_damaged_model(xhat, species, model):
    with open(MODEL, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    done = xhat("predict", MODEL, "species.csv")
    assert done.code == 1
    assert done.err == (
        f"load: expected content that matches its SHA-256, got a damaged file {MODEL}. "
        "Restore the file from a copy, or train again.\n"
    )


def test_a_model_without_names(xhat, species):
    library.save(library.mlp(2, [3], 2), "bare.safetensors")
    done = xhat("predict", "bare.safetensors", "species.csv")
    assert done.code == 1
    assert done.err == (
        "xhat predict: expected a model that knows its columns, got bare.safetensors without them. "
        "Train it with xhat train, or give Sequential its features.\n"
    )
