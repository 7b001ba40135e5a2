from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def _raises(kind: type[Exception], text: str) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert str(caught.value) == text


@pytest.fixture(scope="session")
def raises():
    """`pytest.raises`, but for the exact type and the whole message."""
    return _raises


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that messages show short paths and nothing is found by accident."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XHAT_DATA", raising=False)
    return tmp_path
