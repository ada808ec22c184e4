"""Handler modules named in the settings: loaded when a process boots, with errors that help."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from streamatiq.errors import HandlerModuleError
from streamatiq.workers import load_handlers
from streamatiq.workers.loader import HandlerLoader

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of a name that no other test has; forget it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def module(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield module
    for name in names:
        sys.modules.pop(name, None)


def test_modules_are_imported_in_order_once(write: Write) -> None:
    first = write("unit_first", "import sys\nsys.unit_order = ['first']\n")
    second = write("unit_second", "import sys\nsys.unit_order.append('second')\n")
    load_handlers([first, second])
    load_handlers([first, second])
    assert sys.unit_order == ["first", "second"]  # type: ignore[attr-defined]
    del sys.unit_order  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["unit_no_such_module", "unit_no_such.package", "json.nothing"])
def test_a_missing_module_is_named(name: str) -> None:
    with pytest.raises(HandlerModuleError, match=f"'{name}' .* does not exist") as caught:
        load_handlers([name])
    assert caught.value.__cause__ is None


def test_what_a_module_raises_is_the_cause(write: Write) -> None:
    name = write("unit_raises", "raise LookupError('no tables')\n")
    with pytest.raises(HandlerModuleError, match=r"'unit_raises' .* raised LookupError") as caught:
        load_handlers([name])
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_failing_boot_shows_the_modules_own_frames_only(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    inner = write("unit_inner", "def f():\n    raise LookupError('deep')\n")
    name = write("unit_outer", f"import {inner}\n{inner}.f()\n")
    with pytest.raises(SystemExit) as caught:
        HandlerLoader([name]).after_process_boot(StubBroker(middleware=[]))
    assert caught.value.code == 2
    (record,) = [one for one in caplog.records if one.levelno == logging.CRITICAL]
    assert "'unit_outer'" in record.getMessage()
    assert record.exc_info is not None
    frames = traceback.extract_tb(record.exc_info[2])
    assert [Path(one.filename).stem for one in frames] == ["unit_outer", "unit_inner"]


def test_a_process_with_handlers_of_its_own_loads_nothing(write: Write) -> None:
    broker = StubBroker(middleware=[])
    dramatiq.actor(broker=broker, actor_name="own")(lambda: None)
    HandlerLoader([write("unit_never", "raise AssertionError\n")]).after_process_boot(broker)
    HandlerLoader([]).after_process_boot(broker)


def test_without_any_handlers_a_process_does_not_boot(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        HandlerLoader([]).after_process_boot(StubBroker(middleware=[]))
    assert "No handlers to run: name their modules under workers.handlers" in caplog.text
