"""Scheduler processes, as a user starts them, and what they did."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tests.integration.scheduler.harness import Tick
from tests.support import Child, start_python, wait_until

from streamatiq import RedisStreamsBroker, Settings
from streamatiq.scheduler import Schedule, Schedules, register_kind
from streamatiq.scheduler.kinds import JobKind, _kinds

__all__ = ["SchedulerFleet"]

_KINDS = '''
import os, time
from pydantic import BaseModel
from streamatiq import Event, Partitioned
from streamatiq.scheduler import JobKind, register_kind

class Tick(Event, type="test.tick", log=Partitioned(1)):
    text: str = ""

class Hold(BaseModel):
    path: str

def hold(context, parameters):
    """Writes a file, waits until the test takes it away, and publishes."""
    with open(parameters.path + f".{os.getpid()}", "w") as file:
        file.write(str(context.attempt))
    while os.path.exists(parameters.path):
        time.sleep(0.005)
    context.logs.publish(Tick(ts_event=1, text=f"held by {os.getpid()}"))
    return "released"

register_kind(JobKind("hold", Hold, hold))
'''


class Hold(BaseModel):
    """As in the processes' own module."""

    path: str


class SchedulerFleet:
    """Scheduler processes of one namespace, and a broker to look at it. Close it after use."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        (directory / "fleet_kinds.py").write_text(_KINDS)
        self.directory = directory
        self.env: dict[str, str | None] = {
            "STREAMATIQ_REDIS__URL": url,
            "STREAMATIQ_NAMESPACE": namespace,
            "STREAMATIQ_REDIS__RETRY_DELAY": "0.05",
            "STREAMATIQ_WORKERS__HANDLERS": '["fleet_kinds"]',
            "STREAMATIQ_SCHEDULER__PORT": "0",
            "STREAMATIQ_PROCESSOR__CHECKPOINT_INTERVAL": "null",
        }
        self.broker = RedisStreamsBroker(
            url=url, namespace=namespace, settings=Settings(redis={"retry_delay": 0.05})
        )
        self.schedules = Schedules(self.broker, who="test")
        self._kinds = dict(_kinds)

    def start(self, *, checkpoint_interval: str = "null", **settings: str) -> Child:
        """Starts one; returns when it leads or stands by."""
        self.env["STREAMATIQ_PROCESSOR__CHECKPOINT_INTERVAL"] = checkpoint_interval
        env = {**self.env, **{f"STREAMATIQ_SCHEDULER__{k.upper()}": v for k, v in settings.items()}}
        child = start_python("streamatiq.scheduler", env=env, cwd=self.directory)
        members = self.broker.keys.scheduler.members
        with self.broker.client() as client:
            wait_until(
                lambda: any(b":%d:" % child.pid in name for name in client.hkeys(members)),
                15,
                lambda: f"a sign of life: {child}",
            )
        return child

    @staticmethod
    def leads(child: Child) -> int:
        """The last epoch in which it began to lead; 0: it has not."""
        found = re.findall(r"Leading as \S+, epoch (\d+)", child.stderr)
        return int(found[-1]) if found else 0

    def wait_for_leader(self, child: Child, epoch: int = 1, timeout_s: float = 10.0) -> None:
        wait_until(
            lambda: self.leads(child) >= epoch, timeout_s, lambda: f"epoch {epoch} of {child}"
        )

    def tick(self, name: str = "tick", **fields: Any) -> None:
        """A schedule that publishes every second, and makes up for each fire time."""
        values = {
            "every": "1s",
            "missed": "each",
            "kind": "publish",
            "parameters": {"type": "test.tick", "event": {"text": name}},
            **fields,
        }
        self.schedules.add(Schedule(name=name, **values))

    def hold(self, path: Path) -> None:
        """A schedule whose run, once it is asked for, lasts as long as the file is there."""

        register_kind(JobKind("hold", Hold, lambda context, parameters: None))
        path.write_text("")
        self.schedules.add(
            Schedule(name="hold", cron="@yearly", kind="hold", parameters={"path": str(path)})
        )
        self.schedules.run("hold")

    def fired(self, name: str = "tick") -> Counter[int]:
        """How often each second was published."""
        return Counter(
            entry.event.ts_event // 1_000_000_000
            for entry in self.broker.logs.read(Tick)
            if entry.event.text == name
        )

    def held(self) -> list[str]:
        return [
            entry.event.text
            for entry in self.broker.logs.read(Tick)
            if entry.event.text.startswith("held")
        ]

    def wait_for_ticks(self, count: int, timeout_s: float = 15.0) -> None:
        wait_until(
            lambda: len(self.fired()) >= count, timeout_s, lambda: f"{count} of {self.fired()}"
        )

    def check(self) -> None:
        """Each second once, and none left out."""
        fired = self.fired()
        assert set(fired.values()) == {1}
        assert sorted(fired) == list(range(min(fired), max(fired) + 1))

    @contextmanager
    def stopped(self, child: Child) -> Iterator[None]:
        """SIGSTOP meanwhile."""
        child.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            child.signal(signal.SIGCONT)

    def close(self) -> None:
        self.broker.close()
        _kinds.clear()
        _kinds.update(self._kinds)
