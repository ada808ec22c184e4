"""Wrong declarations and missing brokers: each is one clear error where it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import dramatiq.broker
import pytest
from dramatiq.brokers.stub import StubBroker
from tests.integration.logs.harness import Bench, Note, note

from streamatiq import Event, RedisStreamsBroker, default_broker, on, publish
from streamatiq.errors import HandlerDefinitionError, InvalidSettings, NotAStreamatiqBroker


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No global broker, and a working directory without settings."""
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    monkeypatch.chdir(tmp_path)
    yield
    made = dramatiq.broker.global_broker
    if made is not None:
        made.close()


def _takes_one(event: Event) -> None: ...


def _takes_none() -> None: ...


def _takes_two(event: Event, other: object) -> None: ...


def _keyword(*, event: Event) -> None: ...


class _Abstract(Event):
    pass


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((), r"@on\(\): name one or more event classes"),
        ((Event,), r"@on\(Event\): name one or more event classes"),
        (("market_data",), r"@on\('market_data'\): name one or more"),
        ((Note, int), r"@on\(Note, int\): name one or more"),
        ((_Abstract,), r"@on\(_Abstract\): an abstract event class has no log"),
    ],
)
def test_wrong_classes(bench: Bench, classes: tuple[Any, ...], message: str) -> None:
    with pytest.raises(HandlerDefinitionError, match=message):
        on(*classes, broker=bench.broker)


@pytest.mark.parametrize("function", [_takes_none, _takes_two, _keyword])
def test_a_handler_takes_one_argument(bench: Bench, function: Callable[..., None]) -> None:
    with pytest.raises(HandlerDefinitionError, match="Handler 'odd' must take one argument"):
        on(Note, name="odd", broker=bench.broker)(function)
    on(Note, name="odd", broker=bench.broker)(_takes_one)  # nothing was left behind


@pytest.mark.parametrize("name", ["7up", "a b", "a/b", "{a}", "ä", "x" * 129])
def test_wrong_names(bench: Bench, name: str) -> None:
    with pytest.raises(HandlerDefinitionError, match="cannot be the name of a subscription"):
        on(Note, name=name, broker=bench.broker)(_takes_one)


def test_the_default_name_is_the_functions_own(bench: Bench) -> None:
    actor = on(Note, broker=bench.broker)(_takes_one)
    assert actor.actor_name == actor.queue_name == f"{__name__}._takes_one"
    with pytest.raises(HandlerDefinitionError, match=r"<lambda>' cannot be the name"):
        on(Note, broker=bench.broker)(lambda event: None)


def test_unknown_options_are_named_with_the_known_ones(bench: Bench) -> None:
    with pytest.raises(
        HandlerDefinitionError, match=r"unknown options max_retrys\. Known: .*max_ret"
    ):
        on(Note, name="n", broker=bench.broker, max_retrys=3)(_takes_one)


def test_start_is_new_or_earliest(bench: Bench) -> None:
    with pytest.raises(HandlerDefinitionError, match="start is 'latest'; use 'new' or 'earliest'"):
        on(Note, name="n", broker=bench.broker, start="latest")(_takes_one)  # type: ignore[arg-type]


def test_a_name_is_taken_once(bench: Bench) -> None:
    on(Note, name="taken", broker=bench.broker)(_takes_one)
    with pytest.raises(HandlerDefinitionError, match="named 'taken' is declared already"):
        on(Note, name="taken", broker=bench.broker)(_takes_one)
    bench.broker.declare_queue("queue")
    with pytest.raises(HandlerDefinitionError, match="named 'queue' is declared already"):
        on(Note, name="queue", broker=bench.broker)(_takes_one)


def test_a_name_that_an_actor_has_is_refused_too(bench: Bench) -> None:
    dramatiq.actor(actor_name="plain", broker=bench.broker)(lambda: None)
    with pytest.raises(HandlerDefinitionError, match="'plain' is declared already"):
        on(Note, name="plain", broker=bench.broker)(_takes_one)
    assert "plain" not in bench.broker.subscriptions


def test_events_are_not_sent_and_a_subscription_is_not_flushed(bench: Bench) -> None:
    actor = on(Note, name="handler", broker=bench.broker)(_takes_one)
    with pytest.raises(HandlerDefinitionError, match="takes no messages: publish an event"):
        actor.send(note(""))
    with pytest.raises(HandlerDefinitionError, match="its events stay in their log"):
        bench.broker.flush("handler")
    bench.broker.flush_all()


def test_time_limit_comes_from_the_settings(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(event_bus={"handler_timeout": 2.5})
    assert on(Note, name="a", broker=bench.broker)(_takes_one).options["time_limit"] == 2500
    own = on(Note, name="b", broker=bench.broker, time_limit=7)(_takes_one)
    assert own.options["time_limit"] == 7


@pytest.mark.usefixtures("no_broker")
def test_the_first_publish_makes_the_broker_from_the_settings(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, namespace: str
) -> None:
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", redis_url)
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", namespace)
    assert publish(note("first")).entry_id
    made = dramatiq.broker.global_broker
    assert isinstance(made, RedisStreamsBroker)
    assert default_broker() is made
    assert made.keys.namespace == namespace
    assert on(Note, name="declared")(_takes_one).broker is made


@pytest.mark.usefixtures("no_broker")
def test_wrong_settings_make_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMATIQ_REDIS__MAX_RETRIES", "many")
    with pytest.raises(InvalidSettings, match="STREAMATIQ_REDIS__MAX_RETRIES"):
        publish(note(""))
    assert dramatiq.broker.global_broker is None


@pytest.mark.usefixtures("no_broker")
def test_a_foreign_global_broker_is_refused() -> None:
    stub = StubBroker()
    dramatiq.set_broker(stub)
    message = r"global broker is a StubBroker.*set_broker\(RedisStreamsBroker\(url=\.\.\.\)\)"
    with pytest.raises(NotAStreamatiqBroker, match=message):
        publish(note(""))
    with pytest.raises(NotAStreamatiqBroker, match=message):
        on(Note)(_takes_one)
    assert dramatiq.broker.global_broker is stub
