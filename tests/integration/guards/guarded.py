"""Worker processes with guarded handlers, and what they did, read from a file.

Each run writes one line: process, what, key, number, the machine's monotonic clock. All processes
of a machine share that clock, so that the moments of a halt and of the last run can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import DramatiqWorkers, dramatiq_workers

from streamatiq import Event, Partitioned, RedisStreamsBroker, Settings
from streamatiq.broker import Subscription

__all__ = ["Guarded", "Order", "Ran"]


class Order(Event, type="guard.order", log=Partitioned(1)):
    number: int = 0


_HANDLERS = """
import json, os, time
from importlib import import_module
from pathlib import Path
from streamatiq import Breaker, Event, Partitioned, default_broker, on

for name, value in json.loads(os.environ.get("GUARD_CONSTANTS", "{}")).items():
    module, _, constant = name.rpartition(".")
    module = import_module("streamatiq.broker." + module)
    assert hasattr(module, constant), name
    setattr(module, constant, value)

default_broker()
folder = Path(os.environ["GUARD_FOLDER"])

class Order(Event, type="guard.order", log=Partitioned(1)):
    number: int = 0

def ran(what, event):
    line = [os.getpid(), what, event.key, event.number, time.monotonic()]
    with open(folder / f"ran-{os.getpid()}", "a") as file:
        file.write(json.dumps(line) + "\\n")

@on(Order, name="orders", start="earliest", max_retries=3, min_backoff=20, max_backoff=40,
    breaker=Breaker(failure_threshold=3, reset_time_s=float(os.environ.get("GUARD_RESET", "60"))),
    breaker_key="venue:x", time_limit=60_000)
def orders(event):
    ran("orders", event)
    if (folder / "down").exists():
        raise OSError("the venue is down")
    if (folder / "hang").exists():
        ran("hanging", event)
        while (folder / "hang").exists():
            time.sleep(0.01)
    time.sleep(0.002)

@on(Order, name="cancels", start="earliest", runs_when_halted=True)
def cancels(event):
    ran("cancels", event)
"""


class Ran(NamedTuple):
    """One run of a handler."""

    pid: int
    what: str
    key: str
    number: int
    at_s: float


class Guarded:
    """Worker processes on one namespace, and a broker to look at it. Close it after use."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        (directory / "guarded_handlers.py").write_text(_HANDLERS)
        self.directory = directory
        self.env = {
            "STREAMATIQ_REDIS__URL": url,
            "STREAMATIQ_NAMESPACE": namespace,
            "STREAMATIQ_REDIS__RETRY_DELAY": "0.05",
            "GUARD_FOLDER": str(directory),
            "dramatiq_worker_timeout": "50",
        }
        settings = Settings.model_validate({"redis": {"retry_delay": 0.05, "max_retries": 10}})
        self.broker = RedisStreamsBroker(url=url, namespace=namespace, settings=settings)
        for name in ("orders", "cancels"):
            self.broker.declare_subscription(Subscription(name, (Order,), "earliest"))

    def workers(
        self, *, constants: Mapping[str, float] | None = None, reset_s: float = 60.0, **options: Any
    ) -> AbstractContextManager[DramatiqWorkers]:
        """Start one `dramatiq` command.

        Args:
            constants: values of constants of `streamatiq.broker`, by `module.NAME`.
            reset_s: how long the breaker of `orders` stays open.
        """
        env = {
            **self.env,
            "GUARD_CONSTANTS": json.dumps(constants or {}),
            "GUARD_RESET": str(reset_s),
        }
        return dramatiq_workers("guarded_handlers", env=env, cwd=self.directory, **options)

    def publish(self, numbers: range, key: str = "BTC") -> None:
        self.broker.logs.publish_many([Order(ts_event=1, key=key, number=n) for n in numbers])

    def mark(self, name: str, there: bool = True) -> None:
        """Make the venue `down`, or `hang`; or not any more."""
        path = self.directory / name
        path.touch() if there else path.unlink()

    def runs(self, what: str = "orders") -> list[Ran]:
        """What has run in all processes, in order of time."""
        lines = [
            line
            for path in self.directory.glob("ran-*")
            for line in path.read_text().rpartition("\n")[0].splitlines()
        ]
        found = [Ran(*json.loads(line)) for line in lines]
        return sorted((one for one in found if one.what == what), key=lambda one: one.at_s)

    def close(self) -> None:
        self.broker.close()
