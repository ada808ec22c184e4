"""Worker processes with an ordered handler, its ledger, and what must hold of both.

The handler appends a line to one file when it begins and when it ends (the kernel keeps lines of
several processes whole and in order), and emits one `ordered.stepped` event. So there are two
witnesses: the ledger says what handlers did, the log of the emitted events what was committed.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import redis
from tests.support import DramatiqWorkers, dramatiq_workers, wait_until

from streamatiq import Event, Partitioned, RedisStreamsBroker, Settings
from streamatiq.broker import Subscription

__all__ = ["NAME", "OrderedFleet", "Step", "Stepped"]

NAME = "steps"
PARTITIONS = 6


class Step(Event, type="ordered.step", log=Partitioned(PARTITIONS)):
    """The `number` of each key grows by one."""

    number: int = 0
    #: Seconds that its handling takes; or `hang PATH`: until the file is there.
    what: str = ""
    #: What a row of a recording says.
    row: str = ""


class Stepped(Event, type="ordered.stepped", log=Partitioned(PARTITIONS)):
    number: int = 0
    pid: int = 0
    row: str = ""


_HANDLERS = """
import json, os, random, time
from importlib import import_module
from streamatiq import Event, Partitioned, default_broker, on

for name, value in json.loads(os.environ.get("FLEET_CONSTANTS", "{}")).items():
    module, _, constant = name.rpartition(".")
    module = import_module("streamatiq.broker." + module)
    assert hasattr(module, constant), name
    setattr(module, constant, value)

default_broker()
ledger = os.open(os.environ["FLEET_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
fails = float(os.environ.get("FLEET_FAILS", "0"))

class Step(Event, type="ordered.step", log=Partitioned(6)):
    number: int = 0
    what: str = ""
    row: str = ""

class Stepped(Event, type="ordered.stepped", log=Partitioned(6)):
    number: int = 0
    pid: int = 0
    row: str = ""

def note(what, event):
    line = f"{what} {event.key} {event.number} {os.getpid()} {time.time_ns()}\\n"
    os.write(ledger, line.encode())

@on(Step, name="steps", ordered=True, start="earliest", min_backoff=20, max_backoff=50,
    time_limit=60_000, max_retries=100)
def steps(event):
    note("begin", event)
    if event.what.startswith("hang "):
        while not os.path.exists(event.what[5:]):
            time.sleep(0.01)
    elif event.what:
        time.sleep(float(event.what))
    if random.random() < fails:
        note("fail", event)
        raise RuntimeError("by chance")
    note("end", event)
    return Stepped(ts_event=2, key=event.key, number=event.number, pid=os.getpid(),
                   row=event.row)
"""


class Line(NamedTuple):
    """One line of the ledger."""

    what: str
    key: str
    number: int
    pid: int
    at_ns: int


class OrderedFleet:
    """Worker processes on one namespace, and a broker to look at it. Close it after use."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        (directory / "ordered_handlers.py").write_text(_HANDLERS)
        self.directory = directory
        self.ledger = directory / "ledger"
        self.ledger.touch()
        self.env = {
            "STREAMATIQ_REDIS__URL": url,
            "STREAMATIQ_NAMESPACE": namespace,
            "STREAMATIQ_REDIS__RETRY_DELAY": "0.05",
            "STREAMATIQ_EVENT_BUS__MAX_QUEUE_SIZE": "0",
            "FLEET_LEDGER": str(self.ledger),
            "dramatiq_worker_timeout": "50",
        }
        settings = Settings.model_validate(
            {
                "redis": {"retry_delay": 0.05, "max_retries": 10},
                "event_bus": {"max_queue_size": 0},
            }
        )
        self.broker = RedisStreamsBroker(url=url, namespace=namespace, settings=settings)
        self.broker.declare_subscription(Subscription(NAME, (Step,), "earliest", ordered=True))
        self.published: dict[str, int] = defaultdict(int)
        #: Workers that were killed, or stopped for so long that they were declared dead.
        self.dead: set[int] = set()
        self._client: redis.Redis | None = None

    @property
    def client(self) -> redis.Redis:
        if self._client is None:
            self._client = self.broker.client()
        return self._client

    def workers(
        self,
        *,
        env: Mapping[str, str | None] | None = None,
        constants: Mapping[str, float] | None = None,
        **options: Any,
    ) -> AbstractContextManager[DramatiqWorkers]:
        """Start one `dramatiq` command with one worker process."""
        env = {**self.env, "FLEET_CONSTANTS": json.dumps(constants or {}), **(env or {})}
        return dramatiq_workers("ordered_handlers", env=env, cwd=self.directory, **options)

    def kill(self, workers: DramatiqWorkers) -> None:
        """Kill -9 its worker process."""
        self.dead.add(workers.kill_worker())

    def publish(self, keys: Collection[str], count: int = 1, what: str = "") -> None:
        """The next `count` events of each key, in turns."""
        events = []
        for _ in range(count):
            for key in keys:
                number = self.published[key]
                self.published[key] += 1
                events.append(Step(ts_event=1, key=key, number=number, what=what))
        for at in range(0, len(events), 500):
            self.broker.logs.publish_many(events[at : at + 500])

    def publish_rows(self, rows: Iterable[tuple[str, str]]) -> None:
        """Events of a recording: keys, and what the rows say."""
        events = []
        for key, row in rows:
            events.append(Step(ts_event=1, key=key, number=self.published[key], row=row))
            self.published[key] += 1
        self.broker.logs.publish_many(events)

    def rows(self) -> dict[str, list[str]]:
        """What the rows said whose effects were committed, by key."""
        found: dict[str, list[str]] = defaultdict(list)
        for entry in self.broker.logs.read(Stepped):
            found[entry.event.key].append(entry.event.row)
        return found

    def effects(self) -> int:
        """How many effects were committed."""
        logs = [self.broker.keys.log("ordered.stepped", str(n)).entries for n in range(PARTITIONS)]
        lengths: list[Any] = [self.client.xlen(log) for log in logs]
        return sum(lengths)

    def owners(self) -> list[str]:
        """Who owns each partition; empty where nobody does."""
        logs = [self.broker.keys.log("ordered.step", str(n)) for n in range(PARTITIONS)]
        found: list[Any] = [self.client.get(log.subscription(NAME).owner) for log in logs]
        return ["" if one is None else one.decode() for one in found]

    def owned_by(self, workers: DramatiqWorkers) -> int:
        """How many partitions its process owns."""
        return sum(f":{workers.worker_pids[0]}:" in one for one in self.owners())

    def wait_for_shares(self, *workers: DramatiqWorkers, timeout_s: float = 15.0) -> None:
        """Wait until each of these owns some, and nobody else any."""

        def shared() -> bool:
            counts = [self.owned_by(one) for one in workers]
            return min(counts) > 0 and sum(counts) == PARTITIONS

        wait_until(shared, timeout_s, lambda: str(self.owners()))

    def committed(self) -> dict[str, list[int]]:
        """The numbers of each key whose effects were committed, in the order of the commits."""
        found: dict[str, list[int]] = defaultdict(list)
        for entry in self.broker.logs.read(Stepped):
            found[entry.event.key].append(entry.event.number)
        return found

    def lines(self) -> list[Line]:
        found = []
        for text in self.ledger.read_text().splitlines():
            what, key, number, pid, at_ns = text.split()
            found.append(Line(what, key, int(number), int(pid), int(at_ns)))
        return found

    def settle(self, timeout_s: float = 20.0) -> None:
        """Wait until all that was published is settled."""
        total = sum(self.published.values())
        wait_until(
            lambda: self.effects() >= total and self.broker.backlog(NAME) == 0,
            timeout_s,
            lambda: f"{total} effects, have {self.effects()}, backlog {self.broker.backlog(NAME)}",
        )

    def check(self, *, zombies: Mapping[int, int] | None = None) -> int:
        """Both witnesses; returns how many runs were repeated.

        Parameters:
          zombies: Workers that were declared dead while they were stopped, and when they went on,
            ns: what they did from then on was not committed, and is left out.
        """
        assert self.committed() == {key: list(range(n)) for key, n in self.published.items()}
        by_key: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines():
            if not zombies or line.at_ns < zombies.get(line.pid, time.time_ns()):
                by_key[line.key].append(line)
        return sum(self._check_key(key, lines) for key, lines in by_key.items())

    def _check_key(self, key: str, lines: list[Line]) -> int:
        repeated = 0
        last = Line("end", key, -1, 0, 0)
        seen = -1
        for line in lines:
            if line.what != "begin":
                assert (last.what, last.number, last.pid) == ("begin", line.number, line.pid), (
                    f"{line} after {last}: two ran at once"
                )
            elif last.what == "end" and line.number == last.number + 1:
                repeated += line.number <= seen
            else:
                # Once more: what failed, or what was not committed when its process died.
                died = last.pid in self.dead and line.pid != last.pid
                assert died or (last.what == "fail" and line.number == last.number), (
                    f"{line} after {last}, which is alive"
                )
                assert line.number <= last.number, f"{line} after {last}: one was left out"
                repeated += 1
            seen = max(seen, line.number if line.what == "end" else seen)
            last = line
        assert seen == self.published[key] - 1
        return repeated

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self.broker.close()
