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

import itertools
import math
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush

from .claimed import Claimed
from .gatekeeping import Gatekeeper
from .sources import Source

__all__ = ["Gates", "order_of"]

#: Entries that are kept whole while they wait, of all keys together. (More wait only behind slow
#: handlers, where reading one again costs little beside them.)
KEPT_WHOLE = 2_000
#: Entries of one key that are kept whole behind a retry, another process or a guard.
KEPT_BEHIND = 32

#: Place in a stream.
Order = tuple[int, int]
#: A gate by the place of its first entry; the number decides between those of several streams.
_Queued = tuple[Order, int, "_Gate"]


def order_of(entry_id: bytes) -> Order:
    """The place of an entry in its stream."""
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq)


class _Gate:
    """One key of one source."""

    __slots__ = (
        "at",
        "blockers",
        "held_until",
        "newest",
        "queued",
        "running",
        "soon",
        "taken",
        "waiting",
    )

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
        #: How many of the waiting ones were counted as those that only wait for their turn.
        self.soon = 0
        #: The furthest that runs, or ran last; and the furthest that has ended for good, while
        #: something may come back.
        self.taken: Order = (0, 0)
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
        #: A heap of the gates whose first entry may be taken; that may have gone since.
        self._open: list[_Queued] = []
        self._numbers = itertools.count()
        self._entries = 0
        self._whole = 0
        #: Entries that wait for nothing but their turn.
        self._soon = 0
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
    def soon(self) -> int:
        """See `Shelf`."""
        return self._soon - len(self._open)

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
        is_closed = bool(gate.blockers) or gate in self._held
        is_far = self._whole >= KEPT_WHOLE or (is_closed and len(gate.waiting) >= KEPT_BEHIND)
        item = (place, one.bare() if is_far and one.ending is None else one)
        self._whole += bool(item[1].fields)
        if not gate.waiting or gate.waiting[-1][0] < place:
            gate.waiting.append(item)
        else:
            insort(gate.waiting, item, key=lambda item: item[0])

    def _put_newest(self, gate: _Gate, place: Order, one: Claimed) -> list[Claimed]:
        if place < max(gate.newest, gate.taken if gate.running else gate.newest):
            return [one]
        if not gate.waiting:
            self._insert(gate, place, one)
            return []
        there, other = gate.waiting[0]
        # The same one twice: it was claimed anew under the name that this process has now.
        is_own = self._owned.get(one.source) == one.consumer
        if there > place or (there == place and not is_own):
            return [one]
        self._whole += bool(one.fields) - bool(other.fields)
        gate.waiting[0] = (place, one)
        return [other]

    def put_back(self, claimed: Sequence[Claimed], hold_s: float = 0.0) -> list[Claimed]:
        """See `Shelf`."""
        needless: list[Claimed] = []
        for one in claimed:
            gate = self._gate_of(one)
            gate.running = max(0, gate.running - 1)
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
        """See `Shelf`. What is furthest back in its log goes first, so a single thread sees a
        partition in its order. Several entries of one key are taken together only for one batch."""
        if self._clock_s() >= self._next_look:
            self._release(self._clock_s())
        taken: list[Claimed] = []
        quiet = self._gatekeeper.quiet
        #: Gates of which the batch has entries and may have the next one, too.
        batch: list[_Queued] = []
        while len(taken) < most:
            gate = self._first(batch)
            if gate is None:
                break
            place, one = gate.waiting[0]
            # Before a guard is asked: it may let just one pass, which then must be taken.
            if taken and one.cap and len(taken) >= one.cap:
                self._refresh(gate)
                break
            if not quiet and self._stopped(gate):
                continue
            gate.waiting.popleft()
            self._left(one)
            gate.running += 1
            gate.taken = max(gate.taken, place) if gate.running > 1 else place
            taken.append(one)
            if one.cap:
                most = min(most, one.cap)
            self._refresh(gate)
            if len(taken) < most and gate.waiting and self._may_pass(gate):
                heappush(batch, (gate.waiting[0][0], next(self._numbers), gate))
        return taken

    def _first(self, batch: list[_Queued]) -> _Gate | None:
        """Takes out the gate whose first entry is furthest back, of those that are ready and those
        of the batch."""
        while self._open:
            place, _, gate = self._open[0]
            if batch and batch[0][0] < place:
                break
            heappop(self._open)
            gate.queued = False
            if not self._is_open(gate):
                continue
            if gate.waiting[0][0] != place:
                self._refresh(gate)  # another one stands there by now
                continue
            return gate
        return heappop(batch)[2] if batch else None

    def ended(self, claimed: Claimed, *, returns: bool) -> None:
        """See `Shelf`."""
        gate = self._gate_of(claimed)
        gate.running = max(0, gate.running - 1)
        # What was claimed under another name is expected by whoever owns the partition now.
        if returns and self._is_expected(gate, claimed):
            gate.expect(order_of(claimed.entry_id))
        elif not returns:
            gate.came(order_of(claimed.entry_id))
            gate.newest = max(gate.newest, order_of(claimed.entry_id))
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
                drained += [one for _, one in gone]
                for place, one in gone:
                    self._left(one)
                    if self._is_expected(gate, one):
                        gate.expect(place)
            self._refresh(gate)
        self._forget_closed()
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
            for _, one in gate.waiting:
                self._left(one)
                gone.append(one)
            gate.waiting.clear()
            gate.blockers.clear()
            gate.newest = (0, 0)
            self._refresh(gate)
        self._forget_closed()
        return gone

    def expect(self, source: Source, key: str, entry_ids: Iterable[bytes]) -> None:
        """These entries will come, and are to run before what is behind them."""
        gate = self._gate(source, key)
        here = {place for place, _ in gate.waiting}
        for place in {order_of(one) for one in entry_ids} - here:
            gate.expect(place)
        self._refresh(gate)
        self._forget_closed()

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

    def _is_expected(self, gate: _Gate, claimed: Claimed) -> bool:
        """Whether an entry that goes away is waited for: nothing waits behind what has no key."""
        has_key = not gate.at[1].startswith("\0")
        return has_key and self._owned.get(claimed.source) == claimed.consumer

    def _gate(self, source: Source, key: str) -> _Gate:
        at = (source, key)
        gate = self._gates.get(at)
        if gate is None:
            gate = self._gates[at] = _Gate(at)
        return gate

    def _left(self, one: Claimed) -> None:
        """It waits no more."""
        self._entries -= 1
        self._whole -= bool(one.fields)

    def _is_open(self, gate: _Gate) -> bool:
        """Whether the first one that waits may be taken."""
        return bool(gate.waiting) and not gate.running and self._may_pass(gate)

    def _may_pass(self, gate: _Gate) -> bool:
        """Whether the first one that waits may be taken once nothing of its key runs."""
        return self._conflate or gate.may_pass(gate.waiting[0][0])

    def _refresh(self, gate: _Gate) -> None:
        """What is known of a gate anew, once something has happened to it."""
        soon = len(gate.waiting)
        if soon and (gate in self._held or not self._may_pass(gate)):
            soon = 0
        self._soon += soon - gate.soon
        gate.soon = soon
        if gate.is_idle():
            if self._gates.get(gate.at) is gate:
                del self._gates[gate.at]
            self._held.discard(gate)
        elif not gate.queued and gate not in self._held and self._is_open(gate):
            gate.queued = True
            heappush(self._open, (gate.waiting[0][0], next(self._numbers), gate))

    def _forget_closed(self) -> None:
        """Takes gates that were closed meanwhile out of the ready ones."""
        for _, _, gate in self._open:
            gate.queued = self._is_open(gate)
        self._open = [queued for queued in self._open if queued[2].queued]
        heapify(self._open)

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
        self._refresh(gate)
        self._next_look = min(self._next_look, until)

    def _release(self, now: float) -> None:
        for gate in [one for one in self._held if (one.held_until or 0.0) <= now]:
            self._held.discard(gate)
            gate.held_until = None
            self._refresh(gate)
        self._next_look = min((one.held_until or 0.0 for one in self._held), default=math.inf)
