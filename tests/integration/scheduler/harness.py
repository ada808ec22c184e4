"""Leaders whose clock and timer the test moves; everything on the server is real."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import dramatiq
import redis
from dramatiq.middleware import default_middleware
from pydantic import BaseModel
from tests.support import wait_until

from streamatiq import Event, Partitioned, RedisStreamsBroker, Settings
from streamatiq.broker.connections import Link
from streamatiq.scheduler import JobKind, RunContext, Schedule, Schedules, register_kind, scripts
from streamatiq.scheduler.fencing import FencedLinks
from streamatiq.scheduler.kinds import _kinds
from streamatiq.scheduler.metrics import SchedulerMetrics
from streamatiq.scheduler.runner import Runner

__all__ = ["Desk", "Leader", "Tick", "kind"]


class Tick(Event, type="test.tick", log=Partitioned(1)):
    """What schedules of tests publish."""

    text: str = ""


class Nothing(BaseModel):
    """No parameters."""


def kind(name: str, run: Callable[[RunContext], str | None], **options: Any) -> str:
    """Registers a kind without parameters; returns its name."""
    register_kind(JobKind(name, Nothing, lambda context, _: run(context), **options))
    return name


class ManualTimer:
    """Wake-ups that the test gives."""

    def __init__(self) -> None:
        self.wishes: dict[str, int] = {}

    def wake(self, name: str, at_ms: int) -> None:
        self.wishes[name] = at_ms

    def forget(self, name: str) -> None:
        self.wishes.pop(name, None)


class Leader:
    """One term of leadership, in the test's thread.

    Parameters:
      desk: Gives the clock.
      name: Of the process.
      url: Another way to the server.
    """

    def __init__(self, desk: Desk, name: str, url: str | None = None) -> None:
        self._desk = desk
        self.broker = desk.broker if url is None else desk.open(url)
        keys = desk.broker.keys.scheduler
        link = Link(desk.broker.endpoint)
        lead = link.run(scripts.lead(keys, name, 60_000, 60_000))
        link.close()
        assert lead.epoch > 0, "somebody else leads"
        self.epoch = lead.epoch
        self.links = FencedLinks(
            self.broker.endpoint, self.broker._retry, keys.leader, f"{lead.epoch} {name}"
        )
        self.timer = ManualTimer()
        self.metrics = SchedulerMetrics()
        self.stopping = threading.Event()
        self.runner = Runner(
            self.broker,
            self.links,
            f"{lead.epoch} {name}",
            self.timer,
            now_ms=lambda: desk.now_ms,
            metrics=self.metrics,
            history=50,
            stopping=self.stopping,
        )
        self.load()

    def load(self) -> None:
        """Takes in what is defined."""
        with self._desk.broker.client() as client:
            stored: Any = client.hgetall(self._desk.broker.keys.scheduler.schedules)
        self.runner.load({name.decode(): text.decode() for name, text in stored.items()})

    def work(self) -> None:
        """Does all that is due, in the order of the wishes."""
        while True:
            due = [(at, name) for name, at in self.timer.wishes.items() if at <= self._desk.now_ms]
            if not due:
                return
            _, name = min(due)
            del self.timer.wishes[name]
            self.runner.fire(name)

    def advance(self, ms: int) -> None:
        """Moves the clock, stopping at each wish on the way."""
        end = self._desk.now_ms + ms
        while True:
            self.work()
            ahead = [at for at in self.timer.wishes.values() if at <= end]
            if not ahead:
                break
            self._desk.now_ms = min(ahead)
        self._desk.now_ms = max(end, self._desk.now_ms)  # runs may take time

    def look(self) -> None:
        """Plans all schedules anew, as after a change."""
        self.runner.look_at_all()
        self.work()


class Desk:
    """A namespace with schedules. Close it after use."""

    def __init__(self, url: str, namespace: str) -> None:
        self._namespace = namespace
        self._opened: list[RedisStreamsBroker] = []
        self._leaders: list[Leader] = []
        self._kinds = dict(_kinds)
        self.broker = self.open(url)
        self.schedules = Schedules(self.broker, who="test")
        # Not right before a fire time of most tests, which would pass while they begin.
        wait_until(lambda: self._server_ms() % 10_000 < 9_500)
        #: The clock: the server's, as of now, until it is moved.
        self.now_ms = self._server_ms()

        @dramatiq.actor(broker=self.broker, queue_name="mail")
        def greet(who: str) -> None:
            """Never runs here."""

    def _server_ms(self) -> int:
        return int(self.broker.server_time().timestamp() * 1000)

    def open(self, url: str) -> RedisStreamsBroker:
        """One more broker of the namespace."""
        made = RedisStreamsBroker(
            url=url,
            namespace=self._namespace,
            settings=Settings(redis={"retry_delay": 0.01, "max_retries": 8}),
            middleware=[make() for make in default_middleware],
        )
        self._opened.append(made)
        return made

    def lead(self, name: str = "one", url: str | None = None) -> Leader:
        """A new term; whoever led before is replaced, and does not know it."""
        with self.broker.client() as client:
            client.delete(self.broker.keys.scheduler.lease)
        self._leaders.append(Leader(self, name, url))
        return self._leaders[-1]

    def add(self, name: str = "some", **fields: Any) -> Schedule:
        """Defines a schedule that publishes ticks, unless it is told otherwise."""
        values: dict[str, Any] = {
            "kind": "publish",
            "parameters": {"type": "test.tick", "event": {"text": name}},
            **fields,
        }
        if not {"cron", "every", "at"} & set(values):
            values["every"] = "10s"
        if values["kind"] != "publish" and "parameters" not in fields:
            values["parameters"] = {}
        made = Schedule(name=name, **values)
        self.schedules.add(made, replace=True)
        return made

    def ticks(self) -> list[Tick]:
        """What was published."""
        return [entry.event for entry in self.broker.logs.read(Tick)]

    def times(self) -> list[int]:
        """Fire times of what was published, ms."""
        return [tick.ts_event // 1_000_000 for tick in self.ticks()]

    def outcomes(self, name: str = "some") -> list[str]:
        """Of the history, the oldest first."""
        return [entry.outcome for entry in self.schedules.history(name, limit=50)][::-1]

    def next_time(self, every_ms: int = 10_000) -> int:
        """The next full multiple of an interval."""
        return (self.now_ms // every_ms + 1) * every_ms

    def close(self) -> None:
        for leader in self._leaders:
            leader.links.ended.set()
            leader.links.close()
        for one in self._opened:
            one.close()
        _kinds.clear()
        _kinds.update(self._kinds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def held(self, client: redis.Redis) -> dict[bytes, bytes]:
        """Everything of this namespace, to compare: nothing was changed."""
        names = [
            key
            for key in client.scan_iter(match=f"*{self._namespace}:*", count=1000)
            if key.lstrip(b"{").startswith(f"{self._namespace}:".encode())
        ]
        return {key: client.dump(key) or b"" for key in names}
