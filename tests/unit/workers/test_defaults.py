"""The default broker: made once, from the settings, where none is set; touching no server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import dramatiq.broker
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import default_middleware

from streamatiq import RedisStreamsBroker, Settings, default_broker
from streamatiq.errors import NotAStreamatiqBroker
from streamatiq.workers.command_line import set_broker_for_command_line
from streamatiq.workers.event_loop import EventLoop
from streamatiq.workers.loader import HandlerLoader


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    monkeypatch.chdir(tmp_path)
    yield
    if dramatiq.broker.global_broker is not None:
        dramatiq.broker.global_broker.close()


def _settings() -> Settings:
    return Settings.model_validate(
        {"redis": {"url": "redis://nowhere.invalid:1"}, "namespace": "unit", "workers": {
            "handlers": ["a.b", "c"]}}
    )  # fmt: skip


def test_it_is_built_from_the_settings_with_the_usual_middleware() -> None:
    made = default_broker(_settings())
    assert dramatiq.broker.global_broker is made
    assert made.endpoint.url == "redis://nowhere.invalid:1"
    assert made.keys.namespace == "unit"
    kinds = [type(one) for one in made.middleware]
    assert kinds == [*default_middleware, EventLoop, HandlerLoader]
    loader = made.middleware[-1]
    assert isinstance(loader, HandlerLoader)
    assert loader.modules == ("a.b", "c")
    assert default_broker(Settings()) is made


def test_threads_that_race_get_one_broker() -> None:
    made: list[RedisStreamsBroker] = []
    start = threading.Barrier(8)

    def get() -> None:
        start.wait(10)
        made.append(default_broker(_settings()))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in made}) == 1
    assert len(made) == 8


def test_the_command_line_keeps_a_broker_that_is_set() -> None:
    stub = StubBroker()
    dramatiq.set_broker(stub)
    set_broker_for_command_line()
    assert dramatiq.broker.global_broker is stub
    with pytest.raises(NotAStreamatiqBroker, match="StubBroker"):
        default_broker()


def test_the_command_line_says_wrong_settings_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", "http://x")
    with pytest.raises(SystemExit) as caught:
        set_broker_for_command_line()
    assert caught.value.code == 2
    (record,) = caplog.records
    assert "STREAMATIQ_REDIS__URL" in record.getMessage()
    assert record.exc_info is None


def test_the_command_line_builds_one_where_none_is_set() -> None:
    set_broker_for_command_line()
    assert isinstance(dramatiq.broker.global_broker, RedisStreamsBroker)
