"""Gates: the entries of one key run one by one, in the order of the log; or only the newest does.

Each key of a partition has a gate. An entry that was taken closes it; it opens when that entry's
outcome is on its way to the server, which settles in that order. An entry that comes back later (it
was parked for a retry, handed back, or another process still has it) is a *blocker*: what stands
behind it in the log waits until it is here again and has run. Behind a closed gate only some
entries are kept whole, of the others the ids.

With `conflate`, an entry is dropped as soon as a newer one of its key is here.

Not thread-safe: the buffer's lock guards it. Nothing here survives a crash, or need: all entries
stay pending, and a new owner learns of blockers from the server (`ownership`).
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from .claimed import Claimed
from .gatekeeping import Gatekeeper
from .sources import Source

__all__ = ["Gates", "order_of"]

#: Entries of one key that are kept whole while they wait.
KEPT_WHOLE = 32

#: Place in a stream.
Order = tuple[int, int]


def order_of(entry_id: bytes) -> Order:
    """The place of an entry in its stream."""
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq)


class _Gate:
    """One key of one source."""

    __slots__ = ("at", "blockers", "held_until", "newest", "queued", "running", "waiting")

    def __init__(self, at: tuple[Source, str]) -> None:
        self.at = at
        #: In the order of the log.
        self.waiting: deque[tuple[Order, Claimed]] = deque()
        #: Taken, and not ended.
        self.running = 0
        #: Expected to come (back), before what is behind them; in order.
        self.blockers: list[Order] = []
        #: Whether it is among the ready ones.
        self.queued = False
        #: Monotonic time until which a guard stops it; None if none does.
        self.held_until: float | None = None
        #: The furthest that was taken, while something may come back.
        self.newest: Order = (0, 0)

    def expect(self, place: Order) -> None:
        """This one will come (back)."""
        at = bisect_left(self.blockers, place)
        if self.blockers[at : at + 1] != [place]:
            self.blockers.insert(at, place)

    def came(self, place: Order) -> None:
        """This one is here, or will not come."""
        at = bisect_left(self.blockers, place)
        if self.blockers[at : at + 1] == [place]:
            del self.blockers[at]

    def may_pass(self, place: Order) -> bool:
        """Whether nothing is expected before `place`."""
        return not self.blockers or self.blockers[0] > place

    def is_idle(self) -> bool:
        """Whether there is nothing to remember."""
        return not (self.waiting or self.running or self.blockers)


class Gates:
    """A shelf (see `shelf`) of gates.

    Parameters:
      gatekeeper: Tells what may run.
      conflate: Of each key only the newest entry runs.
      clock_s: Monotonic clock, seconds.
    """

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        *,
        conflate: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._conflate = conflate
        self._clock_s = clock_s
        self._gates: dict[tuple[Source, str], _Gate] = {}
        #: Partitions that this process owns, and under which name.
        self._owned: dict[Source, str] = {}
        #: Gates whose first entry may be taken; entries may have gone since.
        self._open: deque[_Gate] = deque()
        self._entries = 0
        self._held: set[_Gate] = set()
        self._next_look = math.inf

    # -- the shelf -----------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """See `Shelf`. Of each open gate one entry may run."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """See `Shelf`."""
        return self._entries - len(self._open)

    @property
    def next_look(self) -> float:
        """See `Shelf`."""
        return self._next_look

    @property
    def closed(self) -> int:
        """Keys that wait for a retry, for another process, or for a guard."""
        return sum(1 for gate in self._gates.values() if gate.blockers or gate in self._held)

    def put(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """See `Shelf`."""
        needless: list[Claimed] = []
        for one in claimed:
            gate = self._gate_of(one)
            place = order_of(one.entry_id)
            gate.came(place)
            if self._conflate:
                needless += self._put_newest(gate, place, one)
            else:
                self._insert(gate, place, one)
            self._refresh(gate)
        return needless

    def _insert(self, gate: _Gate, place: Order, one: Claimed) -> None:
        self._entries += 1
        behind = len(gate.waiting) >= KEPT_WHOLE or bool(gate.blockers) or gate in self._held
        item = (place, one.bare() if behind and one.ending is None else one)
        if not gate.waiting or gate.waiting[-1][0] < place:
            gate.waiting.append(item)
        else:
            insort(gate.waiting, item, key=lambda item: item[0])

    def _put_newest(self, gate: _Gate, place: Order, one: Claimed) -> list[Claimed]:
        if place < gate.newest:
            return [one]
        if not gate.waiting:
            self._insert(gate, place, one)
            return []
        there, other = gate.waiting[0]
        if there > place:
            return [one]
        gate.waiting[0] = (place, one)
        return [other]

    def put_back(self, claimed: Sequence[Claimed], hold_s: float = 0.0) -> list[Claimed]:
        """See `Shelf`."""
        needless: list[Claimed] = []
        for one in claimed:
            gate = self._gate_of(one)
            gate.running = max(0, gate.running - 1)
            gate.newest = (0, 0)  # it has not run
        for one in claimed:
            gate = self._gate_of(one)
            if self._conflate:
                needless += self._put_newest(gate, order_of(one.entry_id), one)
            else:
                self._insert(gate, order_of(one.entry_id), one)
            if hold_s:
                self._hold(gate, self._clock_s() + hold_s)
            self._refresh(gate)
        return needless

    def pop(self, most: int) -> list[Claimed]:
        """See `Shelf`. Several entries of one key are taken together only for one batch."""
        if self._held and self._clock_s() >= self._next_look:
            self._release(self._clock_s())
        taken: list[Claimed] = []
        quiet = self._gatekeeper.quiet
        for _ in range(len(self._open)):
            if len(taken) >= most:
                break
            gate = self._open.popleft()
            gate.queued = False
            if not self._is_open(gate) or (not quiet and self._stopped(gate)):
                continue
            most = self._take(gate, taken, most)
            self._refresh(gate)
        return taken

    def _take(self, gate: _Gate, taken: list[Claimed], most: int) -> int:
        """Moves what may run of a gate to `taken`; returns how many may be there in all."""
        while gate.waiting and len(taken) < most:
            place, one = gate.waiting[0]
            if not self._conflate and not gate.may_pass(place):
                break
            if taken and one.cap and len(taken) >= one.cap:
                return len(taken)
            gate.waiting.popleft()
            self._entries -= 1
            gate.running += 1
            gate.newest = max(gate.newest, place)
            taken.append(one)
            if one.cap:
                most = min(most, one.cap)
        return most

    def ended(self, claimed: Claimed, *, returns: bool) -> None:
        """See `Shelf`."""
        gate = self._gate_of(claimed)
        gate.running = max(0, gate.running - 1)
        # What was claimed under another name is expected by whoever owns the partition now.
        if returns and self._owned.get(claimed.source) == claimed.consumer:
            gate.expect(order_of(claimed.entry_id))
        elif not returns:
            gate.came(order_of(claimed.entry_id))
        self._refresh(gate)

    def recheck(self) -> None:
        """See `Shelf`."""
        self._release(math.inf)

    def drain(self, unless: str | None) -> list[Claimed]:
        """See `Shelf`. What is drained of an owned partition is expected back."""
        drained: list[Claimed] = []
        for gate in list(self._gates.values()):
            gone = [item for item in gate.waiting if item[1].consumer != unless]
            if gone:
                gate.waiting = deque(item for item in gate.waiting if item[1].consumer == unless)
                self._entries -= len(gone)
                drained += [one for _, one in gone]
                for place, one in gone:
                    if self._owned.get(one.source) == one.consumer:
                        gate.expect(place)
            self._refresh(gate)
        return drained

    # -- what an owner knows -------------------------------------------------------------------

    def own(self, source: Source, consumer: str) -> None:
        """This process owns `source` from now on, under the name `consumer`."""
        self._owned[source] = consumer

    def disown(self, source: Source) -> list[Claimed]:
        """It does not any more: returns what waits, and expects nothing. What runs keeps its gate
        closed until it ends."""
        self._owned.pop(source, None)
        gone: list[Claimed] = []
        for gate in [gate for gate in self._gates.values() if gate.at[0] is source]:
            gone += [one for _, one in gate.waiting]
            self._entries -= len(gate.waiting)
            gate.waiting.clear()
            gate.blockers.clear()
            gate.newest = (0, 0)
            self._refresh(gate)
        return gone

    def expect(self, source: Source, key: str, entry_ids: Iterable[bytes]) -> None:
        """These entries will come, and are to run before what is behind them."""
        gate = self._gate(source, key)
        here = {place for place, _ in gate.waiting}
        for place in {order_of(one) for one in entry_ids} - here:
            gate.expect(place)
        self._refresh(gate)

    def gone(self, source: Source, key: str, entry_ids: Iterable[bytes]) -> None:
        """These entries will not come: they were settled elsewhere."""
        gate = self._gate(source, key)
        for one in entry_ids:
            gate.came(order_of(one))
        self._refresh(gate)

    def expected(self, source: Source) -> dict[str, list[bytes]]:
        """What will come, by key."""
        return {
            gate.at[1]: [b"%d-%d" % place for place in gate.blockers]
            for gate in self._gates.values()
            if gate.at[0] is source and gate.blockers
        }

    # -- parts ---------------------------------------------------------------------------------

    def _gate_of(self, claimed: Claimed) -> _Gate:
        # What cannot be decoded has no key, and what is settled unrun replaces nothing.
        key = claimed.order_key
        if key is None or (self._conflate and claimed.ending is not None):
            key = "\0" + claimed.entry_id.decode()
        return self._gate(claimed.source, key)

    def _gate(self, source: Source, key: str) -> _Gate:
        at = (source, key)
        gate = self._gates.get(at)
        if gate is None:
            gate = self._gates[at] = _Gate(at)
        return gate

    def _is_open(self, gate: _Gate) -> bool:
        """Whether the first one that waits may be taken."""
        if not gate.waiting or gate.running:
            return False
        return self._conflate or gate.may_pass(gate.waiting[0][0])

    def _refresh(self, gate: _Gate) -> None:
        if gate.is_idle():
            if self._gates.get(gate.at) is gate:
                del self._gates[gate.at]
            self._held.discard(gate)
        elif not gate.queued and gate not in self._held and self._is_open(gate):
            gate.queued = True
            self._open.append(gate)

    def _stopped(self, gate: _Gate) -> bool:
        first = gate.waiting[0][1]
        at = self._gatekeeper.admit(self._gatekeeper.subject(first))
        if at is None:
            return False
        self._hold(gate, at)
        return True

    def _hold(self, gate: _Gate, until: float) -> None:
        gate.held_until = until
        self._held.add(gate)
        self._next_look = min(self._next_look, until)

    def _release(self, now: float) -> None:
        for gate in [one for one in self._held if (one.held_until or 0.0) <= now]:
            self._held.discard(gate)
            gate.held_until = None
            self._refresh(gate)
        self._next_look = min((one.held_until or 0.0 for one in self._held), default=math.inf)
