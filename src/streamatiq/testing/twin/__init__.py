"""A server in this process, for tests: see `Twin`."""

from __future__ import annotations

from .server import Twin

__all__ = ["Twin"]
