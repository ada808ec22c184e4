"""Worker processes for fault tests: a module of handlers, and what they did, read from the server.

The handlers stand in a file of the test's directory. Causes are `fault.cause` events and messages;
effects are `fault.effect` events, each with the cause's number and the worker's pid, so that lost
and doubled effects can be counted from the log alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import redis
from dramatiq import Message
from tests.support import DramatiqWorkers, dramatiq_workers, wait_until

from streamatiq import Event, Partitioned, RedisStreamsBroker, Settings
from streamatiq.broker import Subscription

__all__ = ["QUICK", "Cause", "Effect", "Fleet"]

#: Constants of `streamatiq.broker` in worker processes that find the dead sooner, seconds.
QUICK = {
    "heartbeat.BEAT_S": 0.4,
    "heartbeat.LEASE_S": 1.0,
    "reclaimer.SILENCE_S": 1.5,
    "reclaimer.LOOK_S": 0.2,
    "reclaimer.BELIEVE_S": 0.2,
}


class Cause(Event, type="fault.cause", log=Partitioned(1)):
    number: int = 0
    #: What the handler does: nothing, `wait PATH`, `hold SECONDS`, `kill`, `exit`, or seconds.
    what: str = ""


class Effect(Event, type="fault.effect", log=Partitioned(1)):
    number: int = 0
    pid: int = 0


_HANDLERS = """
import ctypes, json, os, signal, time
from importlib import import_module
import dramatiq
from streamatiq import Event, LatencyMetrics, Partitioned, default_broker, on

for name, value in json.loads(os.environ.get("FLEET_CONSTANTS", "{}")).items():
    module, _, constant = name.rpartition(".")
    module = import_module("streamatiq.broker." + module)
    assert hasattr(module, constant), name
    setattr(module, constant, value)

default_broker()
if "FLEET_METRICS" in os.environ:
    every_s = float(os.environ["FLEET_METRICS"])
    default_broker().add_middleware(LatencyMetrics(backlog_every_s=every_s))

class Cause(Event, type="fault.cause", log=Partitioned(1)):
    number: int = 0
    what: str = ""

class Effect(Event, type="fault.effect", log=Partitioned(1)):
    number: int = 0
    pid: int = 0

def work(what):
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        os._exit(9)
    elif what.startswith("hold "):
        # As a long regular expression does: a call into C that keeps the interpreter's lock.
        ctypes.PyDLL(None).usleep(int(float(what[5:]) * 1_000_000))
    elif what.startswith("wait "):
        # Until the test makes the file, or this process is ended.
        open(what[5:] + ".started", "w").close()
        while not os.path.exists(what[5:]):
            time.sleep(0.01)
    elif what:
        time.sleep(float(what))

@on(Cause, name="fleet", start="earliest", min_backoff=20, max_backoff=50, time_limit=60_000)
def fleet(event):
    work(event.what)
    return Effect(ts_event=2, number=event.number, pid=os.getpid())

@dramatiq.actor(queue_name="messages", min_backoff=20, max_backoff=50)
def do(number, what=""):
    work(what)
    publish_effect(number)

def publish_effect(number):
    default_broker().logs.publish(Effect(ts_event=3, number=number, pid=os.getpid()))
"""


class Fleet:
    """Worker processes on one namespace, and a broker to look at it. Close it after use."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        (directory / "fleet_handlers.py").write_text(_HANDLERS)
        self.directory = directory
        self.env = {
            "STREAMATIQ_REDIS__URL": url,
            "STREAMATIQ_NAMESPACE": namespace,
            "STREAMATIQ_REDIS__RETRY_DELAY": "0.05",
            "dramatiq_worker_timeout": "50",  # ms; idle threads see a stop sooner
        }
        settings = Settings.model_validate({"redis": {"retry_delay": 0.05, "max_retries": 10}})
        self.broker = RedisStreamsBroker(url=url, namespace=namespace, settings=settings)
        self.broker.declare_queue("messages")
        self.broker.declare_subscription(Subscription("fleet", (Cause,), "earliest"))
        self.source = self.broker.keys.log("fault.cause", "0").subscription("fleet")
        self._effects = self.broker.keys.log("fault.effect", "0").entries
        self._client: redis.Redis | None = None

    @property
    def client(self) -> redis.Redis:
        """A redis-py client of its server."""
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
        """Start one `dramatiq` command; its worker processes die together when one dies.

        Args:
            constants: values of constants of `streamatiq.broker`, by `module.NAME`.
        """
        env = {**self.env, "FLEET_CONSTANTS": json.dumps(constants or {}), **(env or {})}
        return dramatiq_workers("fleet_handlers", env=env, cwd=self.directory, **options)

    def publish(self, numbers: Collection[int], what: str = "") -> None:
        self.broker.logs.publish_many([Cause(ts_event=1, number=n, what=what) for n in numbers])

    def send(self, number: int, what: str = "", *, lane: str = "normal") -> None:
        """Enqueue one message for the actor `do`."""
        self.broker.enqueue(
            Message(
                queue_name="messages",
                actor_name="do",
                args=(number, what),
                kwargs={},
                options={"priority": lane},
            )
        )

    def effects(self) -> Counter[int]:
        """How many effects each cause has had."""
        return Counter(entry.event.number for entry in self.broker.logs.read(Effect))

    def pids(self) -> set[int]:
        """Who has committed effects."""
        return {entry.event.pid for entry in self.broker.logs.read(Effect)}

    def wait_for_effects(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until the log of effects holds `count` of them."""
        wait_until(
            lambda: self.client.xlen(self._effects) >= count,
            timeout_s,
            lambda: f"{count} effects, found {self.client.xlen(self._effects)}",
        )

    def wait_for(self, numbers: Collection[int], timeout_s: float = 20.0) -> None:
        """Wait until each cause has an effect and nothing is pending."""
        wanted = set(numbers)
        self.wait_for_effects(len(wanted), timeout_s)
        wait_until(
            lambda: wanted <= self.effects().keys() and self.broker.backlog("fleet") == 0,
            timeout_s,
            lambda: f"effects of all causes; missing {sorted(wanted - self.effects().keys())[:20]}",
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self.broker.close()
