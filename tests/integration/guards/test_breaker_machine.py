"""The scripts of breakers against a model: failures, successes, probes, expiry, hands, repeats.

Time is the twin's, which stands still but where a rule moves it; that the twin runs the scripts as
a real server does is shown in `tests/conformance`. Two processes follow the control stream at their
own pace, and each knows in the end what the server knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic_core import from_json

from streamatiq.broker import guard_scripts as scripts
from streamatiq.broker.calls import Call
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.guard_follower import _change
from streamatiq.broker.guard_memory import GuardMemory
from streamatiq.broker.guard_scripts import Report
from streamatiq.broker.guard_state import BreakerState, Subject
from streamatiq.broker.keys import Keys
from streamatiq.testing import Twin

THRESHOLD, RESET_MS, LEASE_MS = 3, 1_000, 500

BREAKERS = st.sampled_from(["a", "b"])
RUNS = st.sampled_from(["h:1:x 1", "h:1:x 2", "h:2:y 1", "h:2:y 2"])


@dataclass(frozen=True)
class Model:
    """What a breaker should be."""

    state: str = "closed"
    failures: int = 0
    until_ms: int = 0
    probe: str = ""
    probe_until_ms: int = 0
    call: str = ""


class Follower:
    """One process: its memory, and where it stands in the stream."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.memory = GuardMemory(lambda: machine.now_ms / 1000)
        self._last_id = b"0-0"
        self.load()

    def load(self) -> None:
        state = self._machine.link.run(scripts.read(self._machine.keys))
        self.memory.load(state)
        self._last_id = state.last_id.encode()

    def follow(self, count: int) -> None:
        link, keys = self._machine.link, self._machine.keys
        reply = link.send("XREAD", "COUNT", count, "STREAMS", keys.control, self._last_id)
        for entry_id, fields in reply[0][1] if reply else ():
            if not self.memory.follow([_change(fields)]):
                self.load()
                return
            self._last_id = entry_id


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_700_000_000_000
        self.twin = Twin(clock_ns=lambda: self.now_ms * 1_000_000)
        self.link = Link(Endpoint(self.twin.url))
        self.keys = Keys("machine").guards
        self.models: dict[str, Model] = {"a": Model(), "b": Model()}
        self.audited: list[tuple[str, str, str]] = []
        self.processes = [Follower(self), Follower(self)]
        self._last: tuple[str, Call[Report]] | None = None

    def teardown(self) -> None:
        self.link.close()
        self.twin.close()

    def _run(self, breaker: str, call: Call[Report], process: int) -> Report:
        report = self.link.run(call)
        self._last = (breaker, call)
        self.processes[process].memory.told(breaker, report)
        return report

    def _becomes(self, breaker: str, model: Model, *, audit: bool = True) -> None:
        before = self.models[breaker].state
        if audit:
            self.audited.append((breaker, before, model.state))
        self.models[breaker] = model

    # -- rules ---------------------------------------------------------------------------------

    @rule(breaker=BREAKERS, run=RUNS, process=st.integers(0, 1))
    def fails(self, breaker: str, run: str, process: int) -> None:
        report = self._run(
            breaker,
            scripts.failed(
                self.keys, breaker, run, threshold=THRESHOLD, reset_ms=RESET_MS, why="w", by="me"
            ),
            process,
        )
        model = self.models[breaker]
        probed = model.state == "half_open" and model.probe == run
        opened = False
        if model.call != run and (model.state == "closed" or probed):
            model = replace(model, failures=model.failures + 1, call=run)
            opened = probed or model.failures >= THRESHOLD
            if opened:
                self._becomes(
                    breaker, Model("open", model.failures, self.now_ms + RESET_MS, call=run)
                )
            else:
                self.models[breaker] = model
        assert (report.to == "open") == opened

    @rule(breaker=BREAKERS, run=RUNS, process=st.integers(0, 1))
    def succeeds(self, breaker: str, run: str, process: int) -> None:
        report = self._run(breaker, scripts.passed(self.keys, breaker, run, by="me"), process)
        model = self.models[breaker]
        probed = model.state == "half_open" and model.probe == run
        if probed or model.state == "closed":
            self._becomes(breaker, Model(), audit=probed)
        assert (report.to == "closed") == probed

    @rule(breaker=BREAKERS, run=RUNS, process=st.integers(0, 1))
    def asks(self, breaker: str, run: str, process: int) -> None:
        call = scripts.probe(self.keys, breaker, run, "take", lease_ms=LEASE_MS, by="me")
        report = self._run(breaker, call, process)
        model = self.models[breaker]
        own = model.state == "half_open" and model.probe == run
        due = model.state == "half_open" and model.probe_until_ms <= self.now_ms
        due = due or (model.state == "open" and 0 < model.until_ms <= self.now_ms)
        if model.state == "closed":
            assert report.to == "closed"
        elif own or due:
            assert report.to == "probe"
            vanished = model.state == "half_open" and bool(model.probe)
            until_ms = self.now_ms + LEASE_MS
            call_ = model.call if own else ""
            taken = replace(
                model, state="half_open", probe=run, probe_until_ms=until_ms, call=call_
            )
            self._becomes(breaker, taken, audit=not own and (model.state == "open" or vanished))
        else:
            assert report.to == ""

    @rule(breaker=BREAKERS, runs=st.permutations(["h:1:x 1", "h:1:x 2", "h:2:y 1", "h:2:y 2"]))
    def opens_and_is_probed(self, breaker: str, runs: list[str]) -> None:
        """What single rules seldom bring about: a row of failures, the reset time, a probe."""
        for run in runs[:THRESHOLD]:
            self.fails(breaker, run, 0)
        self.now_ms += RESET_MS
        self.asks(breaker, runs[-1], 1)

    @rule(breaker=BREAKERS, process=st.integers(0, 1), passes=st.booleans())
    def the_probe_ends(self, breaker: str, process: int, passes: bool) -> None:
        run = self.models[breaker].probe or "h:1:x 1"
        (self.succeeds if passes else self.fails)(breaker, run, process)

    @rule(breaker=BREAKERS, run=RUNS)
    def the_lease_ends_and_another_asks(self, breaker: str, run: str) -> None:
        model = self.models[breaker]
        if model.probe:
            self.now_ms = max(self.now_ms, model.probe_until_ms)
        self.asks(breaker, run, 0)

    @rule(breaker=BREAKERS, run=RUNS, action=st.sampled_from(["renew", "release"]))
    def holds_or_gives_up(self, breaker: str, run: str, action: str) -> None:
        call = scripts.probe(self.keys, breaker, run, action, lease_ms=LEASE_MS, by="me")
        report = self._run(breaker, call, 0)
        model = self.models[breaker]
        own = model.state == "half_open" and model.probe == run
        if own and action == "renew":
            assert report.to == "probe"
            self.models[breaker] = replace(model, probe_until_ms=self.now_ms + LEASE_MS)
        elif own:
            self.models[breaker] = replace(model, probe="", probe_until_ms=0)

    @rule(
        breaker=BREAKERS,
        to=st.sampled_from(["open", "close", "reset"]),
        reset_ms=st.sampled_from([0, RESET_MS]),
    )
    def is_set_by_hand(self, breaker: str, to: str, reset_ms: int) -> None:
        call = scripts.set_breaker(self.keys, breaker, to, why="w", by="me", reset_ms=reset_ms)
        report = self._run(breaker, call, 1)
        model = self.models[breaker]
        assert report.to == model.state
        call_ = str(call.args[-1])
        if to == "open":
            until_ms = self.now_ms + reset_ms if reset_ms else 0
            self._becomes(breaker, Model("open", model.failures, until_ms, call=call_))
        elif model != Model() and to == "reset" and model.state != "closed":
            changed = replace(model, state="half_open", probe="", probe_until_ms=0, call=call_)
            self._becomes(breaker, changed)
        elif model != Model():
            self._becomes(breaker, Model())

    @rule(breaker=BREAKERS)
    def old_failures_are_forgotten(self, breaker: str) -> None:
        forgotten = self.link.run(scripts.forget(self.keys, 0, [breaker]))
        if self.models[breaker].state == "closed":
            assert forgotten == (self.models[breaker] != Model())
            self.models[breaker] = Model()
        else:
            assert forgotten == 0

    @rule(ms=st.sampled_from([1, LEASE_MS - 1, LEASE_MS, RESET_MS]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def the_last_reply_is_lost(self) -> None:
        """The same call again, as after a lost connection: nothing more is audited."""
        if self._last is None or self._last[1].script.name not in (
            "breaker_failed",
            "breaker_passed",
        ):
            return
        breaker, call = self._last
        before = self.models[breaker]
        # A success after a later failure of another run is another call: only at once.
        counted = call.script.name == "breaker_failed" and before.call == call.args[1]
        if counted or (call.script.name == "breaker_passed" and before == Model()):
            self.link.run(call)

    @rule(process=st.integers(0, 1), count=st.integers(1, 3))
    def a_process_follows(self, process: int, count: int) -> None:
        self.processes[process].follow(count)

    @rule(process=st.integers(0, 1))
    def a_process_connects_again(self, process: int) -> None:
        self.processes[process].load()

    # -- what holds ----------------------------------------------------------------------------

    @invariant()
    def the_server_holds_what_the_model_says(self) -> None:
        found = self.link.run(scripts.read(self.keys)).breakers
        for name, model in self.models.items():
            there = found.get(name)
            if model == Model():
                assert there is None
                continue
            assert there is not None
            assert (there.state, there.failures) == (model.state, model.failures)
            assert (there.probe, there.probe_until_ms) == (model.probe, model.probe_until_ms)
            if model.state == "open":
                assert there.until_ms == model.until_ms

    @invariant()
    def every_change_of_state_is_audited_once(self) -> None:
        entries: Any = self.link.send("XRANGE", self.keys.audit, "-", "+")
        records = [from_json(fields[1]) for _, fields in entries]
        assert [(one["name"], one["from"], one["to"]) for one in records] == self.audited

    @rule()
    def who_has_followed_knows_it(self) -> None:
        found = self.link.run(scripts.read(self.keys)).breakers
        for process in self.processes:
            copy = Follower(self)  # what a new process would know
            process.follow(1_000)
            known = {one.name: one for one in process.memory.breakers()}
            assert _told(known) == _told({one.name: one for one in copy.memory.breakers()})
            for name, there in found.items():
                plain = Subject("s", "s", "", (name,), False, whole=True)
                may = process.memory.admit(plain) is None
                waits = there.state == "open" and not 0 < there.until_ms <= self.now_ms
                if there.state != "half_open":  # renewals of a lease are not told to others
                    assert may == (not waits)


def _told(breakers: dict[str, BreakerState]) -> dict[str, tuple[str, int]]:
    """What all processes hear of."""
    return {name: (one.state, one.until_ms) for name, one in breakers.items()}


TestBreakers = Machine.TestCase
TestBreakers.settings = settings(
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
