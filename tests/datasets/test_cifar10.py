"""CIFAR-10 in all its forms, and archives that only look like it."""

import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from xhat import datasets
from xhat.datasets import cifar10

N = 4
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6 * N, 3072), np.uint8)
Y = RNG.integers(0, 10, 6 * N)
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def batch(i: int) -> dict:
    rows = slice(i * N, (i + 1) * N)
    return {
        "data": X[rows].copy(),
        "labels": Y[rows].tolist(),
        "batch_label": f"training batch {i + 1} of 5",
        "filenames": [f"picture_{k}.png" for k in range(N)],
    }


def python3(i: int, protocol: int) -> bytes:
    return pickle.dumps(batch(i), protocol)


def numpy1(i: int, protocol: int) -> bytes:
    """As NumPy 1 wrote it: its modules had other names."""
    data = python3(i, protocol)
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        for prefix in (lambda name: b"c" + name, lambda name: b"\x8c" + bytes([len(name)]) + name):
            data = data.replace(prefix(new), prefix(old))
    assert b"numpy.core." in data
    return data


def columns_first(i: int, protocol: int) -> bytes:
    return pickle.dumps({**batch(i), "data": np.asfortranarray(batch(i)["data"])}, protocol)


def read_only(i: int, protocol: int) -> bytes:
    content = batch(i)
    content["data"].flags.writeable = False
    return pickle.dumps(content, protocol)


def python2(i: int, protocol: int) -> bytes:
    """As Python 2 wrote it: text and pixels alike as byte strings."""

    def text(value: bytes) -> bytes:
        if protocol == 0:
            return b"S" + repr(value)[1:].encode() + b"\n"
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    def number(value: int) -> bytes:
        return b"I%d\n" % value if protocol == 0 else b"J" + struct.pack("<i", value)

    false = b"\x89" if protocol == 2 else b"I00\n"
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + text(b"|") + b"NNNI-1\nI-1\n" + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR"
    pixels = text(X[i * N : (i + 1) * N].tobytes())
    array += b"(" + number(1) + b"(" + number(N) + b"I3072\nt" + dtype + false + pixels + b"tb"
    labels = b"(l" + b"".join(number(int(label)) + b"a" for label in Y[i * N : (i + 1) * N])
    start = b"\x80\x02" if protocol == 2 else b""
    return start + b"(d" + text(b"data") + b"p1\n" + array + b"s" + text(b"labels") + labels + b"s."


def binary(i: int) -> bytes:
    rows = slice(i * N, (i + 1) * N)
    return np.column_stack([Y[rows].astype(np.uint8), X[rows]]).tobytes()


def files(kind=python3, protocol: int = 2) -> dict[str, bytes]:
    if kind is binary:
        return {f"cifar-10-batches-bin/{name}.bin": binary(i) for i, name in enumerate(NAMES)}
    return {f"cifar-10-batches-py/{name}": kind(i, protocol) for i, name in enumerate(NAMES)}


def write_folder(contents: dict[str, bytes]) -> Path:
    for name, data in contents.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    return Path(next(iter(contents))).parent


def pack(contents: dict[str, bytes] | list, form=tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in contents.items() if isinstance(contents, dict) else contents:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(file.getvalue(), 1, mtime=0)


def check(data: datasets.Dataset) -> None:
    assert (data.name, data.image_shape, data.classes[3]) == ("cifar10", (3, 32, 32), "cat")
    assert (data.x.dtype, data.x.flags.c_contiguous, data.y.dtype) == (np.float32, True, np.int64)
    np.testing.assert_array_equal(data.x, X[: 5 * N])
    np.testing.assert_array_equal(data.y, Y[: 5 * N])
    np.testing.assert_array_equal(data.x_test, X[5 * N :])
    np.testing.assert_array_equal(data.y_test, Y[5 * N :])


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        *((kind, protocol) for kind in (python3, numpy1, columns_first, read_only) for protocol in PROTOCOLS),
        *((python2, protocol) for protocol in range(3)),
        (binary, None),
    ],
)
def test_every_form(folder, kind, protocol):
    contents = files(kind, protocol)
    check(cifar10.load(write_folder(contents), N))
    Path("packed.tar.gz").write_bytes(pack(contents))
    check(cifar10.load(Path("packed.tar.gz"), N))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_other_members_do_not_matter(folder, form):
    directory = tarfile.TarInfo("cifar-10-batches-py")
    directory.type = tarfile.DIRTYPE
    others = [
        (directory, b""),
        ("cifar-10-batches-py/readme.html", b"hello"),
        ("../../data_batch_1", b"elsewhere"),
        ("/cifar-10-batches-py/data_batch_1", b"elsewhere"),
        ("cifar-10-batches-py/batches.meta", b"cos\nsystem\n(S'true'\ntR."),
        ("cifar-10-batches-py/" + "é" * 200, b"long"),
    ]
    contents = (
        [("./" + name, data) for name, data in files().items()] if form == tarfile.PAX_FORMAT else files().items()
    )
    if form == tarfile.USTAR_FORMAT:
        others.pop()
    Path("t.tar.gz").write_bytes(pack([*others, *contents], form))
    check(cifar10.load(Path("t.tar.gz"), N))
    assert [path.name for path in folder.iterdir()] == ["t.tar.gz"]


@pytest.mark.parametrize("place", [".", "data", "elsewhere"])
@pytest.mark.parametrize("kind", [python3, binary])
@pytest.mark.parametrize("packed", [True, False])
def test_by_name_and_by_the_folder_around_it(folder, monkeypatch, place, kind, packed):
    monkeypatch.setattr(cifar10.load, "__defaults__", (N,))
    monkeypatch.setenv("XHAT_DATA", "elsewhere")
    Path(place).mkdir(exist_ok=True)
    with monkeypatch.context() as inside:
        inside.chdir(place)
        if packed:
            name = "cifar-10-python.tar.gz" if kind is python3 else "cifar-10-binary.tar.gz"
            Path(name).write_bytes(pack(files(kind)))
        else:
            write_folder(files(kind))
    check(datasets.load("cifar10"))
    check(datasets.load(place))


def test_missing(folder, raises):
    with raises(
        FileNotFoundError,
        "datasets.load: expected cifar-10-python.tar.gz or cifar-10-batches-py or cifar-10-binary.tar.gz or "
        "cifar-10-batches-bin here, in data or in $XHAT_DATA, got none. "
        "Download an archive from https://www.cs.toronto.edu/~kriz/cifar.html, or give its path.",
    ):
        datasets.load("cifar10")


def refusal(path: str, reason: str) -> str:
    return (
        "datasets.load: expected the six batches of CIFAR-10, as its authors give them out, in "
        f"{path}, got {reason}. Download it again from https://www.cs.toronto.edu/~kriz/cifar.html."
    )


def changed(**changes) -> bytes:
    content = {**batch(0), **changes}
    return pickle.dumps({key: value for key, value in content.items() if value is not None}, 2)


LABELS = f"labels other than a list of {N} numbers from 0 to 9, in data_batch_1"
SHAPE = f"pixels that do not fill an array of shape ({N}, 3072), in data_batch_1"
ARRAY = "pixels other than a NumPy array of uint8, in data_batch_1"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a pickle that is cut short or garbled, in data_batch_1"),
        (
            b"cos\nsystem\n(S'true'\ntR.",
            "a pickle that calls for 'os.system', which no array needs, in data_batch_1",
        ),
        (pickle.dumps([1]), "a pickle without data and labels, in data_batch_1"),
        (changed(labels=None, fine_labels=[0] * N), "a pickle without data and labels, in data_batch_1"),
        (changed(labels=[0] * (N - 1)), LABELS),
        (changed(labels=[0] * (N - 1) + [10]), LABELS),
        (changed(labels=[0] * (N - 1) + [-1]), LABELS),
        (changed(labels=[0] * (N - 1) + [True]), LABELS),
        (changed(labels=(0,) * N), LABELS),
        (changed(labels="0123"), LABELS),
        (changed(data=X[: N - 1]), SHAPE),
        (changed(data=X[:N].reshape(3072, N)), SHAPE),
        (changed(data=X[:N].ravel()), SHAPE),
        (changed(data=X[:N].astype(np.int8)), ARRAY),
        (changed(data=X[:N].astype(np.float32)), ARRAY),
        (changed(data=X[:N].tobytes()), ARRAY),
        (changed(data=[1, 2]), ARRAY),
        (python3(0, 2).replace(b"M\x00\x0c", b"M\x01\x0c"), SHAPE),
        (changed(data=X[: N + 1]).replace(b"K\x05M\x00\x0c", b"K\x04M\x00\x0c"), SHAPE),
        (b"\0" * (N * (6 * 3072 + 256) + 4097), "78849 bytes for data_batch_1, where at most 78848 belong"),
    ],
)
def test_what_is_wrong_with_a_batch(folder, raises, data, reason):
    contents = {**files(), "cifar-10-batches-py/data_batch_1": data}
    with raises(ValueError, refusal("cifar-10-batches-py", reason)):
        cifar10.load(write_folder(contents), N)
    Path("t.tar.gz").write_bytes(pack(contents))
    with raises(ValueError, refusal("t.tar.gz", reason)):
        cifar10.load(Path("t.tar.gz"), N)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (binary(0)[:-1], "12291 bytes instead of 12292, in data_batch_1"),
        (b"\x0a" + binary(0)[1:], "the class number 10, in data_batch_1"),
    ],
)
def test_what_is_wrong_with_a_binary_batch(folder, raises, data, reason):
    contents = {**files(binary), "cifar-10-batches-bin/data_batch_1.bin": data}
    with raises(ValueError, refusal("cifar-10-batches-bin", reason)):
        cifar10.load(write_folder(contents), N)


def link(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (gzip.compress(b""), ""),
        (gzip.compress(b"no archive" * 100), ""),
        (b"PK\x03\x04", ""),
        (pack(files())[:-2000], ""),
        (pack(dict(list(files().items())[1:-1])), "none of data_batch_1, test_batch"),
        (pack([*files().items(), *files().items()]), "two of data_batch_1"),
        (pack([*files().items(), *files(binary).items()]), "two of data_batch_1"),
        *(
            (pack([(link(kind), b"")]), "something else than a plain file for data_batch_1")
            for kind in (
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.CHRTYPE,
                tarfile.FIFOTYPE,
                tarfile.CONTTYPE,
            )
        ),
    ],
    ids=range(13),
)
def test_what_is_wrong_with_an_archive(folder, content, reason):
    # What gzip and tarfile say differs between versions of Python; here it is only asked for our sentence.
    Path("t.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"^datasets\.load: expected the six batches") as caught:
        cifar10.load(Path("t.tar.gz"), N)
    assert f"got {reason}" in str(caught.value)


def bomb(kind: str) -> bytes:
    """Half a megabyte that would unpack to 512."""
    size = 512 << 20
    member = tarfile.TarInfo("readme.html" if kind == "readme" else "cifar-10-batches-py/data_batch_1")
    if kind == "header":
        member.type = tarfile.XHDTYPE
    if kind == "name":
        member.type = tarfile.GNUTYPE_LONGNAME
    member.size = size
    start = member.tobuf(tarfile.GNU_FORMAT) if kind != "members" else b""
    many = tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT)
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.write(start)
        block = many * 2048 if kind == "members" else bytes(1 << 20)
        for _ in range(64 if kind == "members" else size >> 20):
            packed.write(block)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["readme", "batch", "header", "name", "members"])
def test_bombs_are_not_unpacked(folder, kind):
    Path("t.tar.gz").write_bytes(bomb(kind))
    tracemalloc.start()
    reason = "536870912 bytes for data_batch_1, where" if kind == "batch" else "more than 1048576 bytes of other files"
    with pytest.raises(ValueError, match=reason):
        cifar10.load(Path("t.tar.gz"), N)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_every_flipped_bit_of_an_archive_is_seen(folder):
    good = pack(files())
    rng = np.random.default_rng(0)
    for _ in range(150):
        bad = bytearray(good)
        place = rng.integers(10, len(bad))  # before this stand the time and the name of the system
        bad[place] ^= 1 << rng.integers(8)
        Path("t.tar.gz").write_bytes(bad)
        with pytest.raises(ValueError, match=r"^datasets\.load: expected the six batches"):
            cifar10.load(Path("t.tar.gz"), N)


@pytest.mark.parametrize("kind", [python3, python2, binary])
def test_mutated_batches_give_our_error_or_a_data_set(folder, attempt, kind):
    rng = np.random.default_rng(1)
    contents = files(kind)
    where = write_folder(contents)
    path = where / next(iter(contents)).split("/")[1]
    good = path.read_bytes()
    seen = set()
    for _ in range(300):
        bad = bytearray(good)
        # Half of the changes go where the structure is, at the two ends.
        far = rng.random() < 0.5
        places = rng.integers(len(bad), size=3) if far else rng.integers(-200, 200, size=2)
        for place in places:
            bad[place] = rng.integers(256)
        path.write_bytes(bad[: rng.integers(len(bad))] if rng.random() < 0.1 else bad)
        data = attempt(cifar10.load, where, N, begins="datasets.load: expected the six batches")
        seen.add("refused" if data is None else "read")
        if data is not None:
            assert data.x.shape == (5 * N, 3072)
            assert 0 <= data.y.min() <= data.y.max() <= 9
    assert seen == {"refused", "read"}
