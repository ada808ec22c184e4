"""The directory that an embedded:// URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamatiq.broker.embedded import embedded_url_path
from streamatiq.errors import EmbeddedServerError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("embedded://.streamatiq/data", ".streamatiq/data"),
        ("embedded:///var/lib/x", "/var/lib/x"),
        ("embedded://data", "data"),
        ("embedded:///with space#1?x=%20", "/with space#1?x=%20"),
    ],
)
def test_paths(url: str, path: str) -> None:
    assert embedded_url_path(url) == Path(path)


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert embedded_url_path("embedded://~/data") == Path("/home/someone/data")


@pytest.mark.parametrize("url", ["embedded://", "redis://x", "embedded:/x", ""])
def test_not_an_embedded_url(url: str) -> None:
    with pytest.raises(EmbeddedServerError, match=r"write embedded://PATH"):
        embedded_url_path(url)


def test_an_unknown_home() -> None:
    with pytest.raises(EmbeddedServerError, match="home directory is not known"):
        embedded_url_path("embedded://~no-such-user-at-all/data")
