"""Halts and breakers over real worker processes, with real kills."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from tests.integration.faults.servers import PrivateServer
from tests.integration.guards.guarded import Guarded
from tests.support import wait_gone, wait_until

from streamatiq.broker import guard_follower
from streamatiq.broker.connections import Endpoint
from streamatiq.broker.guards import Guards
from streamatiq.broker.keys import Keys

#: Promised from the return of `halt` to the last handler that begins, seconds; and what is borne on
#: a machine that is busy with other tests.
PROMISED_S, BORNE_S = 0.2, 1.0


class Feed:
    """Publishes orders until the end of the block, so that something could always run."""

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.published = 0

    def _run(self) -> None:
        while not self._stopping.wait(0.005):
            self._guarded.publish(range(self.published, self.published + 5))
            self.published += 5

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


def test_a_halt_is_effective_everywhere_at_once(guarded: Guarded, figures: list[str]) -> None:
    late_s: list[float] = []
    with guarded.workers(processes=2), Feed(guarded):
        wait_until(lambda: len({one.pid for one in guarded.runs()}) == 2, what="both processes run")
        for _ in range(5):
            begun_s = time.monotonic()
            guarded.broker.halt("orders", reason="measured")
            halted_s = time.monotonic()
            cancels = len(guarded.runs("cancels"))
            # `cancels` runs on, on the same events: proof that time passes and workers work.
            wait_until(lambda before=cancels: len(guarded.runs("cancels")) >= before + 100)
            late_s.append(max(one.at_s for one in guarded.runs()) - halted_s)
            assert late_s[-1] < BORNE_S
            assert halted_s - begun_s < BORNE_S
            runs = len(guarded.runs())
            guarded.broker.resume("orders")
            wait_until(lambda before=runs: len(guarded.runs()) > before)
    figures.append(
        f"halt in 2 processes under load: the last handler began "
        f"{max(0.0, *late_s) * 1000:.1f} ms after its return at most (of {len(late_s)} halts; "
        f"promised: {PROMISED_S * 1000:.0f} ms)"
    )


@pytest.mark.soak
def test_a_halt_survives_restarts_of_workers_and_server(
    private: PrivateServer, private_guarded: Guarded
) -> None:
    guarded = private_guarded
    guarded.broker.halt(key="BTC", reason="audit")
    with guarded.workers():
        guarded.publish(range(5), "BTC")
        guarded.publish(range(5, 10), "ETH")
        wait_until(lambda: len(guarded.runs()) == 5)
    private.kill()
    private.start()
    with guarded.workers() as workers:
        guarded.publish(range(10, 15), "ETH")
        wait_until(lambda: len(guarded.runs()) == 10)
        # The server goes away under workers that run.
        private.kill()
        private.start()
        guarded.publish(range(15, 20), "ETH")
        wait_until(lambda: len(guarded.runs()) == 15, 20, lambda: workers.log)
        assert {one.key for one in guarded.runs()} == {"ETH"}
        [halt] = guarded.broker.halts()
        assert halt.reason == "audit"
        # The control threads follow again: a change is heard of.
        guarded.broker.resume(key="BTC")
        wait_until(lambda: len(guarded.runs()) == 20, 20, lambda: workers.log)
    assert sorted(one.number for one in guarded.runs()) == list(range(20))


@pytest.mark.soak
def test_an_open_breaker_burns_no_attempt_in_any_process(guarded: Guarded) -> None:
    guarded.mark("down")
    with guarded.workers(processes=2, reset_s=1.0) as workers:
        guarded.publish(range(20))
        workers.wait_for_log("Breaker 'venue:x' is open")
        wait_until(lambda: guarded.broker.breakers()[0].state == "open")
        # Several probes fail, one at a time; each is an attempt of the event that ran.
        wait_until(lambda: len(_changes(guarded, "open")) >= 3, 15)
        guarded.mark("down", there=False)
        wait_until(lambda: not guarded.broker.breakers(), 15, lambda: workers.log)
        wait_until(lambda: {one.number for one in guarded.runs()} >= set(range(20)), 15)
        wait_until(lambda: guarded.broker.backlog("orders") == 0, 15)
    failures = 3 + len(_changes(guarded, "open")) - 1
    # What ran while it was opening, in two processes of two threads, may be a few more.
    assert failures + 20 <= len(guarded.runs()) <= failures + 20 + 4
    assert guarded.broker.count_dead_letters("orders") == 0


def test_a_probe_whose_holder_is_killed_is_followed_by_another(
    guarded: Guarded, figures: list[str]
) -> None:
    lease_s = 1.5
    quick = {"guards.PROBE_LEASE_MS": lease_s * 1000, "guard_follower.RENEW_MS": 300}
    guarded.mark("hang")
    with ExitStack() as stack:
        both = [stack.enter_context(guarded.workers(constants=quick)) for _ in range(2)]
        guarded.broker.open_breaker("venue:x", reason="test", reset_time_s=0.3)
        guarded.publish(range(10))
        wait_until(lambda: guarded.runs("hanging"), what="a probe that hangs")
        # It outlives its lease, since that is renewed; nobody else is let through.
        begun_s = time.monotonic()
        wait_until(lambda: time.monotonic() - begun_s > 2 * lease_s, 10)
        [probe] = guarded.runs()
        holder = next(one for one in both if probe.pid in one.worker_pids)
        os.kill(probe.pid, signal.SIGKILL)
        wait_gone(probe.pid)
        killed_s = time.monotonic()
        wait_until(lambda: len(guarded.runs("hanging")) == 2, 10, what="another probe")
        second = guarded.runs()[1]
        assert second.pid != probe.pid
        assert len(guarded.runs()) == 2, "exactly one"
        figures.append(
            f"holder of a probe killed -9: the next began {second.at_s - killed_s:.1f} s later "
            f"(lease {lease_s} s here, 10 s by default)"
        )
        guarded.mark("hang", there=False)
        wait_until(lambda: not guarded.broker.breakers())
        holder.kill()
        wait_until(lambda: {one.number for one in guarded.runs()} == set(range(10)), 20)


def _changes(guarded: Guarded, after: str) -> list[Any]:
    return [one for one in guarded.broker.guard_changes() if one.after == after]


@pytest.mark.parametrize(
    ("shorter", "lasts_s"),
    [(20, 4.0), pytest.param(1, 130.0, marks=[pytest.mark.soak, pytest.mark.timeout(200)])],
)
def test_an_idle_control_thread_asks_little(
    private: PrivateServer, namespace: str, figures: list[str], shorter: int, lasts_s: float
) -> None:
    with pytest.MonkeyPatch.context() as patch, private.client() as client:
        patch.setattr(guard_follower, "BLOCK_MS", guard_follower.BLOCK_MS // shorter)
        patch.setattr(guard_follower, "REFRESH_S", guard_follower.REFRESH_S / shorter)
        guards = Guards(Keys(namespace).guards, Endpoint(private.url), by=lambda: "h:1:a")
        guards.wait_for_first(5)
        before, begun_s = _all_commands(client), time.monotonic()
        wait_until(lambda: time.monotonic() - begun_s >= lasts_s, lasts_s + 5)
        passed_s = time.monotonic() - begun_s
        # Of the load it is known that it is five commands every REFRESH_S.
        asked = _all_commands(client) - before
        guards.stop()
    a_second = asked / passed_s / shorter
    figures.append(f"idle control thread: {a_second:.3f} commands/s (bound 0.2)")
    assert a_second <= 0.2


def _all_commands(client: redis.Redis) -> int:
    stats: dict[str, Any] = client.info("commandstats")
    return sum(one["calls"] for name, one in stats.items() if name != "cmdstat_info")
