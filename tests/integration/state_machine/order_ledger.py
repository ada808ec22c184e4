"""What was promised of order, batches, business keys and guards, kept apart from the model.

Read from what was settled, in the order in which the server settled it, and from which handlers ran
in which process, and when.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from pydantic_core import from_json
from tests.integration.state_machine.model import Entry
from tests.integration.state_machine.reference import Reference

from streamatiq.broker.delivery import Delivery

__all__ = ["OrderLedger", "Run"]

#: Stream, group.
At = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """A handler that runs, for one event."""

    at: At
    key: str
    business: str
    consumer: str
    entry_id: bytes
    delivery: Delivery


class OrderLedger:
    """See the module.

    Parameters:
      ordered: Groups whose events of a key are settled in the order of the log.
      conflated: Groups that skip to the newest.
      is_fenced: Whether nothing of a consumer name is committed any more, or its process is dead.
    """

    def __init__(
        self,
        *,
        ordered: Collection[str],
        conflated: Collection[str],
        is_fenced: Callable[[str], bool],
    ) -> None:
        self._ordered, self._conflated = ordered, conflated
        self._is_fenced = is_fenced
        self._read = 0
        #: How each entry was settled, by stream and group; in order.
        self.outcomes: dict[At, dict[bytes, str]] = defaultdict(dict)
        #: Entries that came again as requeued dead letters: they are late.
        self.late: set[tuple[At, bytes]] = set()
        #: Of each settled entry, how often its partition had a new owner by then.
        self._epochs: dict[tuple[At, bytes], int] = {}
        self.runs: list[Run] = []
        #: The entries with which an entry has run last.
        self._batches: dict[tuple[At, bytes], frozenset[bytes]] = {}

    # -- what was settled ----------------------------------------------------------------------

    def look(self, model: Reference) -> None:
        """Takes in what the model says was settled since the last look."""
        news = model.settled[self._read :]
        self._read = len(model.settled)
        for stream, group, entry, outcome in news:
            at = (stream, group)
            before = self.outcomes[at].get(entry.entry_id)
            if before is not None and (at, entry.entry_id) not in self.late:
                raise AssertionError(f"{group} settles {entry} twice: {before}, {outcome}")
            if outcome == "done" and b'"valid_for_ms":1' in entry.payload:
                raise AssertionError(f"{group} handles {entry}, which is too old")
            if group in self._ordered and outcome == "done":
                self._in_order(model, at, entry, outcome)
            if group in self._conflated and outcome == "done":
                self._newer(model, at, entry)
            self.outcomes[at][entry.entry_id] = outcome
            self._epochs[at, entry.entry_id] = model.sources[at].epoch

    def _of_key(self, model: Reference, at: At, entry: Entry) -> list[Entry]:
        """All entries of its key, in the order of the log."""
        key = _key(entry)
        return [one for one in model.streams[at[0]] if key is not None and _key(one) == key]

    def _in_order(self, model: Reference, at: At, entry: Entry, outcome: str) -> None:
        if (at, entry.entry_id) in self.late:
            return
        for one in self._of_key(model, at, entry):
            if one is entry:
                return
            if one.entry_id not in self.outcomes[at] and not self._together(at, one, entry):
                raise AssertionError(
                    f"{at[1]} settles {entry} as {outcome} before {one} of the same key"
                )

    def _together(self, at: At, one: Entry, other: Entry) -> bool:
        """Whether both ran in one call, of which the handler said that the first has failed."""
        members = self._batches.get((at, other.entry_id), frozenset())
        return one.entry_id in members

    def _newer(self, model: Reference, at: At, entry: Entry) -> None:
        """None of its key that is newer was handled, since the partition had its owner: a new one
        does not know what was."""
        if (at, entry.entry_id) in self.late:
            return
        behind = False
        for one in self._of_key(model, at, entry):
            done = self.outcomes[at].get(one.entry_id) == "done"
            done = done and self._epochs[at, one.entry_id] == model.sources[at].epoch
            if behind and done and (at, one.entry_id) not in self.late:
                raise AssertionError(f"{at[1]} handles {entry} after the newer {one}")
            behind = behind or one is entry

    def check(self, model: Reference) -> None:
        """All is settled: was the newest of each key handled?"""
        for (stream, group), outcomes in self.outcomes.items():
            if group not in self._conflated:
                continue
            newest = {_key(one): one for one in model.streams[stream]}
            for key, one in newest.items():
                if key is not None and outcomes.get(one.entry_id) == "conflated":
                    raise AssertionError(f"{group} has skipped {one}, the newest of {key}")

    # -- what runs -----------------------------------------------------------------------------

    def begin(self, runs: Sequence[Run], *, by_key: bool) -> None:
        """Handlers begin, together. `by_key`: of each key one at a time runs."""
        for new in runs:
            for other in self.runs:
                if new.at != other.at or self._is_fenced(other.consumer):
                    continue
                if by_key and new.key == other.key:
                    raise AssertionError(f"{new} begins while {other} runs")
                if new.business and new.business == other.business:
                    raise AssertionError(f"{new} begins while {other} has its business key")
        ids = frozenset(one.entry_id for one in runs)
        self._batches |= {(one.at, one.entry_id): ids for one in runs}
        self.runs += [one for one in runs if not self._is_fenced(one.consumer)]

    def forget_keys(self) -> None:
        """A window has passed: what was reserved before may be forgotten under its run."""
        self.runs = [replace(one, business="") for one in self.runs]

    def end(self, delivery: Delivery) -> None:
        """A handler has ended; its outcome is with the committer."""
        self.runs = [one for one in self.runs if one.delivery is not delivery]


def _key(entry: Entry) -> str | None:
    try:
        fields = from_json(entry.payload)
    except ValueError:
        return None  # no event: it has no key
    return str(fields.get("key", ""))
