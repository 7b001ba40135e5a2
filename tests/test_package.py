"""The package as a whole: what an import loads and costs, which way arrows point, which names are public."""

import ast
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import xhat
from xhat.layers import LAYERS

SOURCE = Path(xhat.__file__).parent

# What each room may import from the others. Arrows point one way: no room is reachable from itself.
MAY_IMPORT = {
    "kernels": set(),
    "checks": {"kernels"},
    "datasets": {"checks"},
    "core": {"checks"},
    "graph": set(),
    "layers": {"checks", "core", "graph", "kernels"},
    "networks": {"checks", "core", "kernels", "layers"},
    "training": {"checks", "core", "kernels", "layers", "networks"},
    "verify": {"checks", "core", "layers", "networks"},
    "cs231n": {"checks", "layers", "training", "datasets"},
    "bench": {"kernels", ""},
    "cli": {"bench", "checks", "core", "graph", "kernels", "layers", "networks", "training", "verify", "datasets", ""},
    "__init__": {"datasets", "kernels", "layers", "networks", "training", "verify"},
    "__main__": {"cli"},
}


def run(code, env=None):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


def imported_rooms(path):
    """The rooms of xhat that a file imports; "" is the package itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = node.module == "xhat"
            names = [f"xhat.{alias.name}" for alias in node.names] if inside else [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "xhat":
                room = parts[1] if len(parts) > 1 else ""
                yield room if room in MAY_IMPORT or room == "_native" else ""


def test_every_room_is_known():
    rooms = {path.stem for path in SOURCE.glob("*.py")} | {
        p.name for p in SOURCE.iterdir() if (p / "__init__.py").exists()
    }
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_one_way(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    found = set(imported_rooms(path)) - {room}
    if room == "kernels":
        found -= {"_native", ""}
    assert found <= MAY_IMPORT[room], f"{room} imports {found - MAY_IMPORT[room]}"


def test_no_room_is_reachable_from_itself():
    def reachable(room):
        seen, todo = set(), [room]
        while todo:
            for other in MAY_IMPORT.get(todo.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return seen

    assert [room for room in MAY_IMPORT if room in reachable(room)] == []


def test_import_loads_numpy_and_nothing_else():
    loaded = run(
        """
        import sys
        import numpy
        before = set(sys.modules)
        import xhat
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(*sorted(new - {"numpy"} - set(sys.stdlib_module_names)))
        """
    )
    assert loaded == "xhat"


def test_the_command_begins_without_the_engines_of_proof():
    loaded = run("import sys, xhat.cli.commands; print(*(n for n in sys.modules if n.startswith('xhat.verify.')))")
    assert {"xhat.verify.checking", "xhat.verify.symbolic", "xhat.verify.exact"}.isdisjoint(loaded.split())


def test_import_costs_little_beyond_numpy(tmp_path):
    # as after the first import: where Python may not write its bytecode it compiles all sources each time
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    code = """
        import time
        start = time.process_time()
        import numpy
        middle = time.process_time()
        import xhat
        print(middle - start, time.process_time() - middle)
        """
    numpy_seconds, seconds = min(
        (tuple(map(float, run(code, env).split())) for _ in range(7)), key=lambda pair: pair[1]
    )
    # On a loaded machine everything takes longer; NumPy's own import says by how much.
    assert seconds < max(0.050, 0.5 * numpy_seconds), f"{1e3 * seconds:.0f} ms, NumPy {1e3 * numpy_seconds:.0f} ms"


def test_all_names_what_is_public():
    public = run("import xhat; print(*(name for name in dir(xhat) if not name.startswith('_')))").split()
    rooms_that_come_along = {"checks", "core", "graph", "kernels", "layers", "networks"}
    assert set(xhat.__all__) == set(public) - rooms_that_come_along
    assert sorted(xhat.__all__) == list(xhat.__all__)


def test_what_verify_loads_later_is_public_too():
    public = run("import xhat.verify as v; print(*v.__all__); [getattr(v, name) for name in v.__all__]").split()
    assert public == sorted(public)
    listed = run("import xhat.verify as v; print(*(name for name in dir(v) if name in v.__all__))").split()
    assert listed == public


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_every_layer_is_public(layer):
    assert getattr(xhat, layer.__name__) is layer


@pytest.mark.parametrize("name", [name for name in xhat.__all__ if not inspect.ismodule(getattr(xhat, name))])
def test_public_docstrings_say_what_goes_in_and_out(name):
    thing = getattr(xhat, name)
    text = inspect.getdoc(thing)
    assert text
    if inspect.isfunction(thing) and inspect.signature(thing).parameters:
        assert "Parameters\n----------" in text
        assert "Raises\n------" in text or name in ("mlp",)
