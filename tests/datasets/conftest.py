from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def _attempt(read: Callable[..., Any], *arguments: Any, begins: str, **named: Any) -> Any:
    try:
        return read(*arguments, **named)
    except ValueError as error:
        refused = error
    assert type(refused) is ValueError
    assert str(refused).startswith(begins)
    return None


@pytest.fixture(scope="session")
def attempt():
    """Read something damaged: its result, or None after a ValueError that begins in the given way."""
    return _attempt


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that messages show short paths and nothing is found by accident."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XHAT_DATA", raising=False)
    return tmp_path
