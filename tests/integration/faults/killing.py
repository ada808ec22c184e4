"""Kills workers at chosen places, and lets another one finish the job. A program of its own.

One warm process without threads publishes an event and forks a worker, which kills itself by -9;
then it declares that one dead, as the reclaimer does, and forks a second worker, which works until
nothing is left. What the server holds then is printed, a line of JSON a kill.

`plain` and `keyed` kill at the n-th executed line (or return) of the commit path, `calls` at those
that send to the server, from any thread, and `steps` around what a handler
does at a venue outside of the server: a file to which each order that it accepts is appended.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import dramatiq
from dramatiq.middleware import default_middleware

from streamatiq import (
    Event,
    Idempotency,
    Partitioned,
    RedisStreamsBroker,
    Settings,
    fencing_token,
    on,
)
from streamatiq.broker import consumer, settlements
from streamatiq.broker.calls import Call, script_name
from streamatiq.broker.committer import Committer
from streamatiq.broker.connections import Link
from streamatiq.broker.identity import Identity
from streamatiq.broker.members import reads_of
from streamatiq.broker.reclaimer import Reclaimer

__all__ = ["MODES", "STEPS", "main"]

NAME = "killed"
STEPS = ("before reserve", "after reserve", "before call", "after call", "before settle",
         "after settle")  # fmt: skip
MODES = ("rerun", "dead_letter", "reconcile", "token")

#: The commit path.
PATH = {
    function.__code__
    for function in (
        consumer.StreamConsumer.ack,
        consumer.StreamConsumer._settle,
        consumer.StreamConsumer._outcome,
        consumer._business_key,
        consumer._becomes,
        Committer.submit,
        Committer._append,
        Committer._run,
        Committer._commit,
        Committer._until_answered,
        Committer._look_at,
        settlements.settle,
        settlements._group,
        settlements._special,
        Link.run,
        Link.send,
    )
}


class Order(Event, type="kill.order", log=Partitioned(1)):
    number: int = 0


class Sent(Event, type="kill.sent", log=Partitioned(1)):
    number: int = 0


#: All that is sent to the server.
CALLS = {function.__code__ for function in (Link.run, Link.send, Link.run_many, Link.send_many)}


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


class Place:
    """A namespace of one kill."""

    def __init__(self, url: str, namespace: str) -> None:
        settings = Settings.model_validate({"redis": {"retry_delay": 0.02}})
        self.broker = RedisStreamsBroker(
            url, namespace=namespace, settings=settings,
            middleware=[make() for make in default_middleware],
        )  # fmt: skip
        self.source = self.broker.keys.log("kill.order", "0").subscription(NAME)

    def work(self) -> None:
        """Works until nothing is left. In a process of its own; does not return."""
        worker = dramatiq.Worker(self.broker, worker_timeout=20, worker_threads=1)
        worker.start()
        self.broker.join(NAME, timeout=20_000)
        if self.broker._process is not None:  # there may have been nothing to do
            self.broker._process.flush()
        os._exit(0)

    def bury(self) -> None:
        """Declares everybody dead, and takes what they held."""
        identity = Identity()
        sources = self.broker._sources(NAME)
        members = self.broker.keys.members
        reclaimer = Reclaimer(members, identity, lambda: reads_of(sources), max_deliveries=5)
        with closing(Link(self.broker.endpoint)) as link:
            for name in link.send("HKEYS", members.alive):
                reclaimer.reclaim(link, name.decode(), fence=True)

    def found(self) -> dict[str, Any]:
        """What the server holds."""
        with self.broker.client() as client:
            records = [json.loads(fields[b"r"]) for _, fields in client.xrange(self.source.audit)]
            pending: Any = client.xpending(self.source.entries, NAME)
            return {
                "sent": sum(1 for _ in self.broker.logs.read(Sent)),
                "pending": pending["pending"],
                "marks": client.hlen(self.source.done),
                "keys": [value.decode().split()[0] for value in client.hvals(self.source.keys)],
                "done": sum(record.get("done", 0) for record in records),
                "letters": [one.cause for one in self.broker.dead_letters(NAME)],
            }

    def close(self) -> None:
        self.broker.close()


def forked(run: Callable[[], None]) -> int:
    """Runs it in a child; returns by which signal that ended, 0 if it ended well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads there are none of ours
        pid = os.fork()
    if pid == 0:
        try:
            run()
        except BaseException:  # noqa: BLE001 - said, and never back into the parent's code
            traceback.print_exc()
        os._exit(70)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        raise SystemExit(f"a worker failed with {os.WEXITSTATUS(status)}")
    return 0


# -- lines -------------------------------------------------------------------------------------


def tracing(n: int, tell: int, *, calls: bool) -> Callable[..., Any]:
    """Kills this process at the n-th line or return of the path, and writes where that was.

    Parameters:
      calls: Of what all threads send to the server; else of the commit path.
    """
    count = itertools.count(1)
    path = CALLS if calls else PATH

    def local(frame: FrameType, event: str, arg: object) -> Any:
        if event in ("line", "return") and next(count) == n:
            call = frame.f_locals.get("call")
            what = call.script.name if isinstance(call, Call) else ""
            args = frame.f_locals.get("args") or ("", "")
            what = what or script_name(args[1] if len(args) > 1 else "") or args[0]
            told = {"at": frame.f_code.co_qualname, "line": frame.f_lineno, "call": what}
            os.write(tell, json.dumps(told).encode())
            die()
        return local

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code not in path:
            return None
        name = threading.current_thread().name
        others = name.startswith("streamatiq-") and name != "streamatiq-committer"
        return None if (others and not calls) or name == "MainThread" else local

    return trace


def kill_at_lines(url: str, namespace: str, kind: str, numbers: Iterable[int]) -> None:
    """Until a run ends without a kill.

    Parameters:
      kind: `plain`, `keyed` (with a business key), or `calls` (the same, killed at script calls).
    """
    keyed, calls = kind != "plain", kind == "calls"
    for n in numbers:
        place = Place(url, f"{namespace}-{n}")
        options: dict[str, Any] = {"idempotency_key": lambda order: "k"} if keyed else {}

        @on(Order, name=NAME, start="earliest", broker=place.broker, **options)
        def handler(order: Order) -> Sent:
            return Sent(ts_event=2, number=order.number)

        place.broker.logs.publish(Order(ts_event=1, number=n))
        read, write = os.pipe()

        def first(place: Place = place, n: int = n, write: int = write) -> None:
            threading.settrace(tracing(n, write, calls=calls))
            place.work()

        killed = forked(first)
        os.close(write)
        told = os.read(read, 1000) or b"{}"
        os.close(read)
        place.bury()
        forked(place.work)
        found = {"n": n, "killed": killed, **json.loads(told), **place.found()}
        say(found)
        place.close()
        if not killed:
            return


# -- steps -------------------------------------------------------------------------------------


class Venue:
    """Accepts orders: each is a line of a file, on disk before the call returns.

    It refuses what comes with a token that is lower than one it has seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def orders(self) -> list[tuple[str, int]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def send(self, order_id: str, token: int = 0) -> bool:
        if any(seen > token for _, seen in self.orders()):
            return False
        with self.path.open("a") as file:
            file.write(f"{order_id} {token}\n")
            file.flush()
            os.fsync(file.fileno())
        return True


def kill_at_steps(url: str, namespace: str, directory: str) -> None:
    for mode, step in itertools.product(MODES, STEPS):
        place = Place(url, f"{namespace}-{mode}-{step.replace(' ', '-')}")
        venue = Venue(Path(directory) / f"{mode}-{step}.ledger")
        at = [""]

        def reach(here: str, at: list[str] = at) -> None:
            if here == at[0]:
                die()

        def reconcile(order: Order, venue: Venue = venue) -> bool | Sent:
            known = any(order_id == str(order.number) for order_id, _ in venue.orders())
            return Sent(ts_event=2, number=order.number) if known else False

        on_uncertain: Any = {"reconcile": reconcile, "token": "rerun"}.get(mode, mode)

        @on(Order, name=NAME, start="earliest", broker=place.broker,
            idempotency_key=lambda order: str(order.number), on_uncertain=on_uncertain)  # fmt: skip
        def handler(
            order: Order, mode: str = mode, venue: Venue = venue, reach: Callable[..., Any] = reach
        ) -> Sent:
            token = fencing_token() if mode == "token" else 0
            reach("before call")
            assert venue.send(str(order.number), token)
            reach("after call")
            return Sent(ts_event=2, number=order.number)

        place.broker.logs.publish(Order(ts_event=1, number=7))

        def first(place: Place = place, at: list[str] = at, step: str = step,
                  reach: Callable[..., Any] = reach) -> None:  # fmt: skip
            at[0] = step
            _around(Idempotency, "_reserve", "reserve", reach)
            _around(Committer, "_commit", "settle", reach)
            place.work()

        killed = forked(first)
        place.bury()
        forked(place.work)
        found = {"mode": mode, "step": step, "killed": killed, "orders": len(venue.orders())}
        say({**found, **place.found()})
        place.close()


def _around(cls: type, name: str, what: str, reach: Callable[[str], None]) -> None:
    inner = getattr(cls, name)

    def outer(*args: Any) -> Any:
        reach(f"before {what}")
        result = inner(*args)
        reach(f"after {what}")
        return result

    setattr(cls, name, outer)


def main() -> None:
    what, url, namespace, *rest = sys.argv[1:]
    if what == "steps":
        kill_at_steps(url, namespace, rest[0])
    else:
        every = int(rest[0])
        kill_at_lines(url, namespace, what, itertools.count(1, every))


if __name__ == "__main__":
    main()
