"""The delivery that the present thread (or its coroutine) works on.

A context variable: an async handler runs on another thread, in a copy of the worker's context.
"""

from __future__ import annotations

from contextvars import ContextVar

from .delivery import Delivery

__all__ = ["current_delivery"]

#: None outside of a handler.
current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery", default=None)
