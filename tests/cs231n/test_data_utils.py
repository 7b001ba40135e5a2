"""CIFAR-10 and Tiny ImageNet from made-up files in the original forms."""

import inspect
import io
import os
import pickle

import numpy as np
import pytest

from xhat.cs231n import data_utils


@pytest.fixture
def cifar(tmp_path):
    """Six batches of four pictures, as the authors pickle them; and what is in them."""
    pixels, labels = np.random.randint(0, 256, (24, 3072), np.uint8), np.random.randint(0, 10, 24)
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        rows = slice(4 * i, 4 * i + 4)
        batch = {b"data": pixels[rows], b"labels": labels[rows].tolist(), b"batch_label": b"x"}
        (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
    return tmp_path, pixels.reshape(24, 3, 32, 32).astype(float), labels


def test_one_batch_and_all(cifar):
    folder, pictures, labels = cifar
    X, y = data_utils.load_CIFAR_batch(folder / "data_batch_2")
    assert X.dtype == np.float64
    assert np.array_equal(X, pictures[4:8].transpose(0, 2, 3, 1))
    assert np.array_equal(y, labels[4:8])
    X, y, X_test, y_test = data_utils.load_CIFAR10(str(folder))
    assert np.array_equal(np.concatenate([X, X_test]), pictures.transpose(0, 2, 3, 1))
    assert np.array_equal(np.concatenate([y, y_test]), labels)
    with open(folder / "test_batch", "rb") as file:
        batch = data_utils.load_pickle(file)
    assert batch["data"].dtype == np.uint8
    assert batch["labels"] == labels[20:].tolist()


@pytest.mark.parametrize("subtract_mean", [True, False])
def test_get_cifar10_data(cifar, subtract_mean):
    folder, pictures, labels = cifar
    data = data_utils.get_CIFAR10_data(13, 5, 2, subtract_mean, cifar10_dir=folder)
    mean = pictures[:13].mean(0) if subtract_mean else 0
    for name, rows in (("train", slice(13)), ("val", slice(13, 18)), ("test", slice(20, 22))):
        assert np.allclose(data[f"X_{name}"], pictures[rows] - mean, atol=1e-12)
        assert np.array_equal(data[f"y_{name}"], labels[rows])
        assert data[f"X_{name}"].flags.c_contiguous
    with pytest.raises(ValueError, match="get_CIFAR10_data: expected at most 20 pictures, got 50000. Ask for fewer."):
        data_utils.get_CIFAR10_data(cifar10_dir=folder)


def test_defaults():
    parameters = inspect.signature(data_utils.get_CIFAR10_data).parameters
    assert [p.default for p in parameters.values()] == [
        49000, 1000, 1000, True, "cs231n/datasets/cifar-10-batches-py",
    ]  # fmt: skip


def test_a_missing_folder_says_how_to_get_the_data(cifar, monkeypatch):
    monkeypatch.chdir(cifar[0])
    with pytest.raises(
        FileNotFoundError, match=r"'cs231n/datasets/cifar-10-batches-py', got no data_batch_1, .*Download"
    ):
        data_utils.get_CIFAR10_data()
    (cifar[0] / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match=r"got no data_batch_3\. Download"):
        data_utils.load_CIFAR10(cifar[0])


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for bad in (pickle.dumps(Trap()), pickle.dumps({"data": 1}), b"", b"x"):
        with pytest.raises(ValueError, match="load_pickle: expected a batch of CIFAR-10, got"):
            data_utils.load_pickle(io.BytesIO(bad))
    assert not (tmp_path / "ran").exists()


def test_tiny_imagenet(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.randint(0, 256, (6, 8, 8, 3), np.uint8)

    def put(k, *place, grey=False):
        file = tmp_path.joinpath(*place)
        file.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels[k, :, :, 0] if grey else pixels[k]).save(file, format="PNG")

    def write(text, *place):
        file = tmp_path.joinpath(*place)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("n02\nn01\n", "wnids.txt")
    write("n01\tfish, trout\nn02\tbird\nn03\tother\n", "words.txt")
    put(0, "train", "n01", "images", "n01_0.JPEG")
    put(1, "train", "n01", "images", "n01_1.JPEG", grey=True)
    put(2, "train", "n02", "images", "n02_0.JPEG")
    write("n01_0.JPEG\t0\t0\t7\t7\nn01_1.JPEG\t0\t0\t7\t7\n", "train", "n01", "n01_boxes.txt")
    write("../../../elsewhere/n02_0.JPEG\t0\t0\t7\t7\n", "train", "n02", "n02_boxes.txt")  # leads nowhere else
    put(3, "val", "images", "val_0.JPEG")
    write("val_0.JPEG\tn01\t0\t0\t7\t7\n", "val", "val_annotations.txt")
    put(4, "test", "images", "test_1.JPEG")
    put(5, "test", "images", "test_0.JPEG")
    data = data_utils.load_tiny_imagenet(tmp_path)
    assert data["class_names"] == [["bird"], ["fish", "trout"]]
    assert data["y_train"].tolist() == [0, 1, 1]
    assert data["y_val"].tolist() == [1]
    assert data["y_test"] is None
    true = pixels.astype(np.float32)
    true[1] = true[1, :, :, :1]
    true = true.transpose(0, 3, 1, 2)
    train = true[[2, 0, 1]]
    assert np.allclose(data["mean_image"], train.mean(0))
    assert np.allclose(data["X_train"], train - train.mean(0), atol=1e-4)
    assert np.allclose(data["X_val"], true[[3]] - train.mean(0), atol=1e-4)
    assert np.allclose(data["X_test"], true[[5, 4]] - train.mean(0), atol=1e-4)
    assert data["X_train"].dtype == np.float32
    plain = data_utils.load_tiny_imagenet(str(tmp_path), dtype=np.float64, subtract_mean=False)
    assert np.array_equal(plain["X_val"], true[[3]])
    write("test_0.JPEG\tn02\ntest_1.JPEG\tn01\n", "test", "test_annotations.txt")
    assert data_utils.load_tiny_imagenet(tmp_path)["y_test"].tolist() == [0, 1]


def test_what_is_not_there_says_so():
    with pytest.raises(NotImplementedError, match="load_models: expected models that can be read without running code"):
        data_utils.load_models("models")
    with pytest.raises(NotImplementedError, match="load_imagenet_val: expected assignment 2"):
        data_utils.load_imagenet_val(3)
