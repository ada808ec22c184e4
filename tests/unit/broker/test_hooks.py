"""Only overridden hooks are called, in Dramatiq's order, whatever happens to the list."""

from __future__ import annotations

from typing import Any

from dramatiq import Broker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware

from streamatiq.broker.hooks import Hooks


class _Before(Middleware):
    def before_ack(self, broker: Broker, message: Any) -> None: ...


class _Both(Middleware):
    def before_ack(self, broker: Broker, message: Any) -> None: ...

    def after_ack(self, broker: Broker, message: Any) -> None: ...


class _Inherits(_Both):
    pass


class _Foreign:
    """Not derived from Middleware, as Dramatiq allows."""

    def after_ack(self, broker: Broker, message: Any) -> None: ...


def _found(pairs: Any) -> list[object]:
    for hook, middleware in pairs:
        assert hook.__self__ is middleware
    return [middleware for _, middleware in pairs]


def _hooks(*middleware: Any) -> tuple[Hooks, Broker]:
    broker = StubBroker(middleware=[])
    broker.middleware = list(middleware)
    return Hooks(broker), broker


def test_only_what_is_overridden_is_found_first_added_first_and_last_added_first() -> None:
    empty, before, both, inherits, foreign = (
        Middleware(), _Before(), _Both(), _Inherits(), _Foreign(),
    )  # fmt: skip
    hooks, _ = _hooks(empty, before, both, inherits, foreign)
    assert _found(hooks.before("ack")) == [before, both, inherits]
    assert _found(hooks.after("ack")) == [foreign, inherits, both]
    assert hooks.before("nack") == ()


def test_a_list_changed_in_place_or_replaced_is_seen() -> None:
    before, both, last = _Before(), _Both(), _Both()
    hooks, broker = _hooks(before)
    assert _found(hooks.before("ack")) == [before]
    assert hooks.after("ack") == ()
    broker.middleware.append(both)
    assert _found(hooks.after("ack")) == [both]
    assert _found(hooks.before("ack")) == [before, both]
    broker.middleware = [last]
    assert _found(hooks.before("ack")) == [last]
    broker.middleware.clear()
    assert hooks.before("ack") == hooks.after("ack") == ()


def test_found_once_it_is_remembered() -> None:
    hooks, _ = _hooks(_Before())
    assert hooks.before("ack") is hooks.before("ack")
