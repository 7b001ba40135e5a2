"""Files: a network in one safetensors file that is written whole or not at all, and refused when damaged.

The header's metadata hold the format's version, the network's configuration and a SHA-256 over that and
every tensor's name, type, shape and bytes. Reading executes nothing that the file says: layers are built by
name from `xhat.layers.LAYERS`.
"""

import hashlib
import inspect
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from xhat.checks import Array
from xhat.core import Layer
from xhat.layers import LAYERS
from xhat.networks import Sequential

_FORMAT = "xhat-network-1"
_STORED = ("float16", "float32", "float64")
_REMEDY = "Restore the file from a copy, or train again."


def save(network: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a network to a file, whole or not at all.

    The file is safetensors: parameters and running statistics by the names of `network.parameters` and
    `network.state`; configuration, notes and a SHA-256 in its metadata. It is written beside the target, flushed to
    disk and renamed, so that a crash at any moment leaves the old file or the new one.

    Parameters
    ----------
    network : Sequential
        What to keep.
    path : path-like
        Usually ends in `.safetensors`. An existing file is replaced.

    Raises
    ------
    TypeError
        If the network could not be read again: notes or settings that JSON does not hold, parameters of other types
        or shapes than its settings say.
    OSError
        If the folder cannot be written to; an existing file stays as it is.

    Examples
    --------
    >>> import xhat, tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.safetensors")
    ...     xhat.save(xhat.mlp(4, [8], 3, normalization="batch"), path)
    ...     net = xhat.load(path)
    >>> net.layers[1]
    BatchNorm(channels=8)
    """
    from safetensors.numpy import save as to_bytes

    if not isinstance(network, Sequential):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"save: expected a Sequential, got {type(network).__name__}. Make one with xhat.mlp.")
    path = _as_path("save", path)
    tensors = {
        name: np.array(values, values.dtype.newbyteorder("="), order="C")
        for name, values in {**network.parameters, **network.state}.items()
    }
    for name, values in tensors.items():
        if values.dtype.name not in _STORED:
            raise TypeError(
                f"save: expected parameters of {', '.join(_STORED)}, got {values.dtype} in {name}. "
                "Convert the network with network.astype(numpy.float32)."
            )
    try:
        config = json.dumps(_config(network), sort_keys=True, allow_nan=False)
        _build(json.loads(config), tensors, {type(layer).__name__: type(layer) for layer in network.layers})
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise TypeError(
            f"save: expected a network that can be built again from JSON, got one that cannot: {error}. "
            "Use str, int, float, bool, None, lists and dicts in notes and settings."
        ) from None
    metadata = {"format": _FORMAT, "config": config, "sha256": _digest(config, tensors)}
    write_whole(path, to_bytes(tensors, metadata))


def load(path: str | os.PathLike[str], *, layers: Iterable[type[Layer]] = ()) -> Sequential:
    """Read a network from a file that `save` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    layers : iterable of Layer classes, optional
        Classes of your own that the network uses, besides those of xhat.

    Returns
    -------
    Sequential
        With the saved parameters, running statistics and notes. Dropout layers draw anew, from one generator.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is not such a file, or names layers that are not known. One flipped bit is enough.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    name = _as_path("load", path)
    try:
        data = Path(name).read_bytes()
    except IsADirectoryError:
        raise ValueError(
            f"load: expected a file that xhat.save wrote, got the folder {name}. Name the file in it."
        ) from None
    except FileNotFoundError:
        raise FileNotFoundError(
            f"load: expected a file that xhat.save wrote, got no file {name}. Check the path."
        ) from None
    try:
        tensors = from_bytes(data)
        size = int.from_bytes(data[:8], "little")
        metadata: dict[str, str] = json.loads(data[8 : 8 + size]).get("__metadata__", {})
        found, config, digest = metadata.get("format"), metadata.get("config", ""), metadata.get("sha256")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"load: expected a safetensors file, got {name}: {error}. {_REMEDY}") from None
    if found != _FORMAT:
        raise ValueError(f"load: expected format {_FORMAT}, got {found!r} in {name}. Write the file with xhat.save.")
    if digest != _digest(config, tensors):
        raise ValueError(f"load: expected content that matches its SHA-256, got a damaged file {name}. {_REMEDY}")
    try:
        return _build(json.loads(config), tensors, {layer.__name__: layer for layer in (*LAYERS, *layers)})
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"load: expected a network that this version of xhat can build, got {name}: {error}. "
            "Pass classes of your own as layers=."
        ) from None


def _as_path(who: str, path: object) -> str:
    """Return the name of a file, if it can be one."""
    name: object = os.fspath(cast("os.PathLike[Any]", path)) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"{who}: expected path as a str or a pathlib.Path, got {type(name).__name__}. Name the file.")
    if "\0" in name:
        raise ValueError(f"{who}: expected path without a NUL character, got {name!r}. Name the file.")
    return name


def _config(network: Sequential) -> dict[str, Any]:
    return {
        "layers": [{"name": type(layer).__name__, "settings": layer.settings()} for layer in network.layers],
        "loss": network.loss_name,
        "classes": network.classes,
        "features": network.features,
        "notes": network.notes,
    }


def _build(config: dict[str, Any], tensors: Mapping[str, Array], known: Mapping[str, type[Layer]]) -> Sequential:
    budget = sum(values.size for values in tensors.values())
    rng = np.random.default_rng(0)
    layers: list[Layer] = []
    for entry in config["layers"]:
        if entry["name"] not in known:
            raise ValueError(f"unknown layer {entry['name']!r}")
        kind = known[entry["name"]]
        settings = {k: tuple(cast("list[Any]", v)) if isinstance(v, list) else v for k, v in entry["settings"].items()}
        if kind in LAYERS:
            _check_sizes(entry["name"], settings, budget)
        if "rng" in inspect.signature(kind).parameters:
            settings["rng"] = rng
        layers.append(kind(**settings))
    network = Sequential(layers, loss=config["loss"], classes=config["classes"], features=config["features"])
    if not isinstance(config["notes"], dict):
        raise TypeError("notes that are no dict")
    network.notes = config["notes"]
    named = {**network.parameters, **network.state}
    if named.keys() != tensors.keys():
        raise ValueError(f"tensors {sorted(named.keys() ^ tensors.keys())} on one side only")
    for name, values in named.items():
        if tensors[name].shape != values.shape:
            raise ValueError(f"{name} of shape {tensors[name].shape}, not {values.shape}")
        if tensors[name].dtype.name not in _STORED:
            raise ValueError(f"{name} of type {tensors[name].dtype}, not floating")
    for name in network.state:
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} with NaN or Inf")
    for i, layer in enumerate(network.layers):
        layer.parameters = {name: tensors[f"{i}.{name}"].copy() for name in layer.parameters}
        for name, values in layer.state.items():
            values[...] = tensors[f"{i}.{name}"]
    return network


def _check_sizes(name: str, settings: Mapping[str, Any], budget: int) -> None:
    """Refuse sizes that the file's tensors cannot stand behind, before a layer allocates for them."""
    flat = [
        n
        for value in settings.values()
        for n in cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
    ]
    sizes = [n for n in flat if isinstance(n, int) and n > 0]
    if math.prod(sizes) > 64 * budget + 1024:
        raise ValueError(f"{name} of sizes {sizes} in a file of {budget} numbers")


def _digest(config: str, tensors: Mapping[str, Array]) -> str:
    sha = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        values = tensors[name]
        sha.update(f"\n{name} {values.dtype.name} {values.shape}\n".encode())
        sha.update(values.tobytes())
    return sha.hexdigest()


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all: beside the target, flushed to disk, then renamed.

    Parameters
    ----------
    path : path-like
        The target. A link is followed; an existing file is replaced and keeps its permissions.
    data : bytes
        What it shall hold.

    Raises
    ------
    OSError
        If it cannot be written, or is something other than a file.
    """
    path = Path(os.path.realpath(path))
    mode = 0o666 & ~_umask()
    if path.exists():
        if not path.is_file():
            raise OSError(f"write_whole: expected a file to write to, got {path}, which is none. Name a file.")
        mode = stat.S_IMODE(path.stat().st_mode)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
