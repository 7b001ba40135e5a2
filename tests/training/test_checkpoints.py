import copy
import json
import os
import stat
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import xhat


@pytest.fixture
def net():
    net = xhat.mlp(3, [4], 2, normalization="batch", dropout=0.25, rng=0)
    net = xhat.Sequential(
        [xhat.Standardize.of(np.random.default_rng(0).random((9, 3))), *net.layers],
        classes=["no", "yes"],
        features=["a", "b", "c"],
    )
    net.notes = {"data": "digits", "seed": 3, "nested": [1, {"x": None}]}
    net.forward(np.random.default_rng(1).standard_normal((8, 3)), training=True)
    return net


def test_everything_comes_back(net, tmp_path):
    path = tmp_path / "net.safetensors"
    xhat.save(net, path)
    again = xhat.load(path)
    assert repr(again) == repr(net)
    assert (again.classes, again.features, again.notes) == (net.classes, net.features, net.notes)
    for kind in ("parameters", "state"):
        ours, theirs = getattr(net, kind), getattr(again, kind)
        assert list(ours) == list(theirs)
        for name, values in ours.items():
            assert theirs[name].dtype == values.dtype
            assert np.array_equal(theirs[name], values)
    x = np.random.default_rng(2).random((5, 3))
    assert np.array_equal(again.predict(x), net.predict(x))
    before = again.layers[2].statistics.mean.copy()
    again.forward(x, training=True)  # the running statistics that were loaded are those that learn
    assert not np.array_equal(again.state["2.running_mean"], before)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types_come_back(dtype, tmp_path):
    net = xhat.mlp(3, [4], 2, normalization="layer", dtype=dtype)
    xhat.save(net, tmp_path / "n")
    assert xhat.load(tmp_path / "n").dtype == dtype


def test_bfloat16_is_refused_before_anything_is_written(tmp_path):
    net = xhat.mlp(3, [4], 2, dtype=ml_dtypes.bfloat16)
    with pytest.raises(
        TypeError, match=r"^save: expected parameters of float16, float32, float64, got bfloat16 in 0\.w\. Convert"
    ):
        xhat.save(net, tmp_path / "n")
    assert not list(tmp_path.iterdir())


def test_loaded_dropout_layers_draw_different_masks(tmp_path):
    xhat.save(xhat.mlp(5, [8, 8], 2, dropout=0.5), tmp_path / "n")
    _, caches = xhat.load(tmp_path / "n").forward(np.ones((50, 5), np.float32), training=True)
    assert caches[2].key != caches[5].key


def test_torch_and_others_can_read_the_tensors(net, tmp_path):
    from safetensors import safe_open

    xhat.save(net, tmp_path / "n.safetensors")
    with safe_open(tmp_path / "n.safetensors", "numpy") as file:
        assert set(file.keys()) == {*net.parameters, *net.state}
        assert len(file.metadata()["sha256"]) == 64


def test_one_flipped_bit_is_enough(net, tmp_path):
    path = tmp_path / "net.safetensors"
    xhat.save(net, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    positions = {*range(40), *rng.integers(0, len(whole), 600).tolist()}
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^load: expected .*, got .*\. [A-Z]"):
            xhat.load(path)


def test_every_truncation_is_refused(net, tmp_path):
    path = tmp_path / "net.safetensors"
    xhat.save(net, path)
    whole = path.read_bytes()
    for size in [*range(64), *range(64, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"^load: expected"):
            xhat.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match=r"^load: expected"):
        xhat.load(path)


def forge(path, change):
    """Write a file with a changed configuration and the SHA-256 that fits it."""
    from safetensors.numpy import load_file, save

    from xhat.training import checkpoints

    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    config = json.loads(header["config"])
    change(config)
    tensors = load_file(path)
    text = json.dumps(config)
    path.write_bytes(
        save(
            tensors,
            {"format": header["format"], "config": text, "sha256": checkpoints._digest(text, tensors)},
        )
    )


FORGERIES = {
    "unknown layer": lambda c: c["layers"][0].update(name="os.system"),
    "builtin name": lambda c: c["layers"][0].update(name="__class__"),
    "unknown setting": lambda c: c["layers"][1]["settings"].update(code="print()"),
    "missing setting": lambda c: c["layers"][1]["settings"].pop("inputs"),
    "huge layer": lambda c: c["layers"][1]["settings"].update(inputs=10**9, outputs=10**9),
    "huge channels": lambda c: c["layers"][2]["settings"].update(channels=10**12),
    "negative size": lambda c: c["layers"][1]["settings"].update(inputs=-5),
    "other size": lambda c: c["layers"][1]["settings"].update(inputs=5),
    "text for a size": lambda c: c["layers"][1]["settings"].update(inputs="3"),
    "no layers": lambda c: c.pop("layers"),
    "layers is a number": lambda c: c.update(layers=7),
    "loss": lambda c: c.update(loss="eval"),
    "a layer less": lambda c: c["layers"].pop(),
    "notes is a number": lambda c: c.update(notes=7),
    "rate": lambda c: c["layers"][4]["settings"].update(rate=7),
    "classes is a number": lambda c: c.update(classes=3),
    "eps is a list": lambda c: c["layers"][2]["settings"].update(eps=[1, 2]),
}


def test_state_that_is_not_finite_is_refused(net, tmp_path):
    xhat.save(net, tmp_path / "n")
    net.layers[2].statistics.var[1] = np.nan
    with pytest.raises(
        TypeError, match=r"^save: expected a network that can be built again .* 2\.running_var with NaN or Inf"
    ):
        xhat.save(net, tmp_path / "n")
    assert np.isfinite(xhat.load(tmp_path / "n").state["2.running_var"]).all()


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_configurations_are_refused(net, tmp_path, forgery):
    path = tmp_path / "net.safetensors"
    xhat.save(net, path)
    forge(path, lambda config: None)
    assert repr(xhat.load(path)) == repr(net)
    forge(path, FORGERIES[forgery])
    with pytest.raises(ValueError, match=r"^load: expected a network that this version of xhat can build, got "):
        xhat.load(path)


def test_other_files_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(
        ValueError, match=r"^load: expected format xhat-network-1, got None in .*\. Write the file with"
    ):
        xhat.load(path)
    path.write_text("x" * 100)
    with pytest.raises(ValueError, match="^load: expected a safetensors file, got"):
        xhat.load(path)
    with pytest.raises(ValueError, match="^load: expected a file that xhat.save wrote, got the folder"):
        xhat.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="^load: expected a file that xhat.save wrote, got no file"):
        xhat.load(tmp_path / "absent")


def test_what_could_not_be_read_again_is_not_written(net, tmp_path):
    path = tmp_path / "n"
    xhat.save(net, path)
    old = path.read_bytes()
    breaks = {
        "notes": lambda n: setattr(n, "notes", None),
        "shape": lambda n: n.layers[1].parameters.update(w=np.zeros((2, 2), np.float32)),
        "type": lambda n: n.layers[1].parameters.update(w=np.zeros((3, 4), complex)),
    }
    for name, spoil in breaks.items():
        spoiled = copy.deepcopy(net)
        spoil(spoiled)
        with pytest.raises(TypeError, match="^save: expected"):
            xhat.save(spoiled, path)
        assert path.read_bytes() == old, name


def test_other_byte_order_is_kept_readable(tmp_path):
    net = xhat.mlp(3, [4], 2, dtype=">f4")
    xhat.save(net, tmp_path / "n")
    assert np.array_equal(xhat.load(tmp_path / "n").parameters["0.w"], net.parameters["0.w"])


def test_links_and_permissions_are_kept(net, tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"")
    real.chmod(0o640)
    link.symlink_to(real)
    xhat.save(net, link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert repr(xhat.load(real)) == repr(net)
    with pytest.raises(OSError, match="expected a file to write to"):
        xhat.save(net, tmp_path)


def test_a_failed_save_leaves_the_old_file(net, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    xhat.save(net, path)
    old = path.read_bytes()
    net.notes["bad"] = object()
    with pytest.raises(
        TypeError, match=r"^save: expected a network that can be built again from JSON, got one that cannot"
    ):
        xhat.save(net, path)
    del net.notes["bad"]

    def full(handle):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        xhat.save(net, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_file_has_the_usual_permissions(net, tmp_path):
    xhat.save(net, tmp_path / "n")
    (tmp_path / "plain").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "n").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_kill_while_saving_loses_nothing(tmp_path):
    """Killed at random moments while it overwrites a file, the process leaves a whole one."""
    path = tmp_path / "net.safetensors"
    code = (
        "import sys, itertools, xhat\n"
        "nets = [xhat.mlp(300, [300], 10, rng=seed) for seed in (0, 1)]\n"
        "for i in itertools.count():\n"
        "    xhat.save(nets[i % 2], sys.argv[1])\n"
        "    i or print('saved', flush=True)\n"
    )
    rng = np.random.default_rng(0)
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            try:
                process.wait(float(rng.uniform(0, 0.05)))
            except subprocess.TimeoutExpired:
                process.kill()
        assert xhat.load(path).parameters["0.w"].shape == (300, 300)
