import ast
import functools
import importlib.util
import itertools
import sys
import textwrap
import types

import numpy as np
import pytest

from xhat.verify.problem import Unsupported
from xhat.verify.rebind import Rebinding, line_of, rebind


class Named:
    """Stands for a module: every name in it is a function that tells its own path."""

    def __init__(self, path):
        self._path = path

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "fft":
            raise Unsupported("np.fft is not modelled")
        return Named(f"{self._path}.{name}")

    def __call__(self, *_args, **_named):
        return self._path


class World:
    def __init__(self):
        self.modules = {"numpy": Named("np"), "math": Named("math")}
        self.builtins = {"float": Named("float")}


counter = itertools.count()


@pytest.fixture
def load(tmp_path, monkeypatch):
    def load(text, name=None):
        name = name or f"students_module_{next(counter)}"
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


BODIES = {
    "import numpy as np\ndef f(): return np.sqrt(1)": "np.sqrt",
    "import numpy\ndef f(): return numpy.sqrt(1)": "np.sqrt",
    "import numpy as xp\ndef f(): return xp.linalg.norm(1)": "np.linalg.norm",
    "import numpy.random as r\ndef f(): return r.rand(1)": "np.random.rand",
    "from numpy import random\ndef f(): return random.rand(1)": "np.random.rand",
    "from numpy import sqrt\ndef f(): return sqrt(1)": "np.sqrt",
    "from numpy import *\ndef f(): return mean(1)": "np.mean",
    "from numpy import sum as total\ndef f(): return total(1)": "np.sum",
    "from numpy import pi\ndef f(): return pi()": "np.pi",
    "from numpy import double\ndef f(): return double()": "np.float64",
    "from numpy.linalg import norm\ndef f(): return norm(1)": "np.linalg.norm",
    "from numpy.random import rand\ndef f(): return rand(1)": "np.random.rand",
    "def f():\n    import numpy as np\n    return np.sqrt(1)": "np.sqrt",
    "def f():\n    import numpy.random as r\n    return r.rand(1)": "np.random.rand",
    "def f():\n    from numpy import sqrt\n    return sqrt(1)": "np.sqrt",
    "def f():\n    from numpy.linalg import norm\n    return norm(1)": "np.linalg.norm",
    "import math\ndef f(): return math.sqrt(1)": "math.sqrt",
    "from math import sqrt\ndef f(): return sqrt(1)": "math.sqrt",
    "def f():\n    from math import exp\n    return exp(1)": "math.exp",
    "def f(): return float(1)": "float",
    "import numpy as np\ndef g(): return np.sqrt(1)\ndef f(): return g()": "np.sqrt",
    "import numpy as np\ndef f(n=2): return g(n)\ndef g(n): return f(n - 1) if n else np.sqrt(1)": "np.sqrt",
    "import numpy as np\ndef f():\n    def g(): return np.sqrt(1)\n    return g()": "np.sqrt",
    "import numpy as np\ng = lambda: np.sqrt(1)\ndef f(): return g()": "np.sqrt",
    "import numpy as np\ndef f(root=np.sqrt): return root(1)": "np.sqrt",
    "import numpy as np\ndef f(*, root=np.sqrt): return root(1)": "np.sqrt",
    "import numpy as np\nTABLE = {'a': [np.sqrt]}\ndef f(): return TABLE['a'][0](1)": "np.sqrt",
    "import numpy as np\ndef make(m):\n    def f(): return m.sqrt(1)\n    return f\nf = make(np)": "np.sqrt",
    "import functools, numpy as np\ndef g(a, b): return a(b)\nf = functools.partial(g, np.sqrt, 1)": "np.sqrt",
    "import functools, numpy as np\n@functools.cache\ndef g(): return np.sqrt(1)\ndef f(): return g()": "np.sqrt",
    "import numpy as np\nclass A:\n    @staticmethod\n    def g(): return np.sqrt(1)\ndef f(): return A.g()": "np.sqrt",
    "import numpy as np\nclass A:\n    def g(self): return np.sqrt(1)\ndef f(): return A().g()": "np.sqrt",
    "import numpy as np\nclass A:\n    def g(self): return np.sqrt(1)\nf = A().g": "np.sqrt",
    "import numpy as np\nclass A:\n    def g(self): return np.sqrt(1)\nclass B(A):\n    def g(self): return super().g()\nf = B().g": "np.sqrt",
}


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_every_way_to_numpy_is_exchanged(load, body):
    module = load(body)
    before = dict(vars(module))
    assert rebind(module.f, World())() == BODIES[body]
    assert vars(module) == before


def test_the_functions_of_another_module_of_the_user(load):
    load("import numpy as np\ndef g(): return np.sqrt(1)", "students_own_part")
    for text in (
        "from students_own_part import g\ndef f(): return g()",
        "import students_own_part as part\ndef f(): return part.g()",
        "def f():\n    from students_own_part import g\n    return g()",
        "def f():\n    import students_own_part\n    return students_own_part.g()",
    ):
        assert rebind(load(text).f, World())() == "np.sqrt"


def test_functions_copied_together_share_the_state_of_their_module(load):
    module = load(
        """
        cache, count = {}, 0
        def forward(x):
            global count
            count += 1
            cache["x"] = x
        def backward():
            return cache["x"], count
        """
    )
    copies = Rebinding(World())
    copies(module.forward)(5)
    assert copies(module.backward)() == (5, 1)
    assert (module.cache, module.count) == ({}, 0)


def test_what_is_not_modelled_is_refused_when_used_and_not_before(load):
    module = load("from numpy.fft import fft\nfrom numpy import fft as module\ndef f(use): return fft(1) if use else 3")
    f = rebind(module.f, World())
    assert f(False) == 3
    with pytest.raises(Unsupported, match="np.fft is not modelled"):
        f(True)


@pytest.mark.parametrize("call", ["eval('1')", "exec('1')", "globals()"])
def test_what_would_look_past_the_copy_is_refused(load, call):
    with pytest.raises(Unsupported, match="is not modelled"):
        rebind(load(f"def f(): return {call}").f, World())()


class Doubled(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.copy_location(ast.Constant(2 * node.value), node) if isinstance(node.value, int) else node


def test_transform_keeps_file_lines_defaults_and_closures(load):
    module = load(
        """
        import functools
        def keep(g):
            @functools.wraps(g)
            def around(*a): return g(*a)
            return around
        def make(k):
            def f(x=1, *, y=10):
                return x + y + k + 100
            return f
        f = make(1000)
        class A:
            @keep
            def g(self):
                assert isinstance(self, __class__)

                raise ValueError(7)
        g = A().g
        """
    )
    transform = Doubled().visit
    f = rebind(module.f, World(), transform)
    assert f() == 1 + 10 + 1000 + 200
    assert (f.__code__.co_filename, f.__code__.co_firstlineno) == (module.__file__, module.f.__code__.co_firstlineno)
    with pytest.raises(ValueError, match="14") as raised:
        rebind(module.g, World(), transform)()
    line = module.g.__wrapped__.__code__.co_firstlineno + 4
    assert line_of(raised.value, module.g) == line_of(raised.value, module.__file__) == line


def test_transform_is_not_given_a_source_that_is_no_longer_that_of_the_code(load, tmp_path):
    module = load("def f():\n    return 1\n")
    (tmp_path / f"{module.__name__}.py").write_text("def f():\n    return 1 + len('ab')\n")
    assert rebind(module.f, World(), Doubled().visit)() == 1


def test_line_of_an_error_elsewhere_is_none():
    try:
        np.zeros(3).reshape(2)
    except ValueError as error:
        assert line_of(error, "another.py") is None
        assert line_of(error, functools.partial(test_line_of_an_error_elsewhere_is_none)) is not None


def test_data_stays_as_it_is(load):
    module = load("import numpy as np\nW = np.arange(3.0)\nN = types = 4\ndef f(): return W, N")
    W, N = rebind(module.f, World())()
    assert N == 4
    np.testing.assert_array_equal(W, module.W)
    assert W is not module.W
    assert isinstance(module.f, types.FunctionType)


def test_the_functions_that_a_named_tuple_holds_are_copied_too(load):
    module = load(
        """
        from typing import NamedTuple
        import numpy as np
        class Pair(NamedTuple):
            forward: object
            name: str
        PAIR = Pair(lambda x: np.sqrt(x), "root")
        def f(x): return PAIR.forward(x), PAIR.name, type(PAIR) is Pair
        """
    )
    expected = World().modules["numpy"].sqrt(4)
    assert rebind(module.f, World())(4) == (expected, "root", True)
