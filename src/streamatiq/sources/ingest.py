"""Publishes what an input holds, and accounts for every row.

Events are published in batches, in the order of the input; the run stops only between batches, or
while it waits for room: a full log is waited for, so that reading is as fast as handling.
Publishing a file again is harmless while its ids are remembered (see `dataset`), which is also how
to go on after a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ..errors import BacklogFull, IngestError
from ..events import Event, MarketDataEvent
from .input import Read
from .pacing import Pacer
from .problem import BadRow, Skipped
from .publishing import Publish, PublishReceipt
from .report import IngestReport

__all__ = ["BATCH_EVENTS", "ROOM_TIMEOUT_S", "Ingest"]

#: Events published at a time.
BATCH_EVENTS: Final = 500
#: Rows between two looks at the stop flag and the progress display.
ROWS_A_LOOK: Final = 1000
#: Longest wait between two such looks, in seconds.
_LONGEST_WAIT_S: Final = 0.5
#: How long a full log is waited for without finding room for anything, in seconds.
ROOM_TIMEOUT_S: Final = 60.0
#: Between two looks for room, in seconds.
_ROOM_LOOK_S: Final = 0.02


class Ingest:
    """One run.

    Parameters:
      publish: Stores a batch; None only checks the rows.
      pacer: The asked pace; None publishes as fast as it goes.
      limit: Rows to read at most.
      max_bad: Bad rows that are borne; one more ends the run.
      on_bad: Called with each bad row.
      on_progress: Called now and then with the report.
      stopped: Asked between batches, and while waiting for room, whether to end the run.
      room_timeout_s: How long to wait, in seconds, for room in a full log without finding any.
      wait: Waits for so many seconds, or less.
      clock_s: A clock that never steps back, in seconds.
    """

    def __init__(
        self,
        publish: Publish | None,
        *,
        pacer: Pacer | None = None,
        limit: int | None = None,
        max_bad: int | None = None,
        on_bad: Callable[[BadRow], None] | None = None,
        on_progress: Callable[[IngestReport], None] | None = None,
        stopped: Callable[[], bool] | None = None,
        room_timeout_s: float = ROOM_TIMEOUT_S,
        wait: Callable[[float], object] = time.sleep,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._pacer = pacer
        self._limit = limit
        self._max_bad = max_bad
        self._on_bad = on_bad
        self._on_progress = on_progress
        self._stopped = stopped
        self._room_timeout_s = room_timeout_s
        self._wait = wait
        self._clock_s = clock_s
        self._start_s = 0.0
        self._batch: list[MarketDataEvent] = []
        self._batch_first_ns = 0
        #: What the last call said, if there was no room for all of it.
        self._full: BacklogFull | None = None
        #: Up to date whenever `run` is left, by an exception too.
        self.report = IngestReport()

    def run(self, rows: Iterable[Read]) -> IngestReport:
        """Publishes the events among the rows.

        Raises:
          IngestError: A file is damaged, or there are more than `max_bad` bad rows. What was read
            before is published.
          BacklogFull: A log was full for too long; what it had no room for counts as `unsent`.
          StreamatiqError: Publishing failed; the report's `uncertain` counts that batch.
        """
        self._start_s = self._clock_s()
        try:
            self._read(rows)
        except IngestError:
            self._flush()
            raise
        finally:
            self.report.unsent += len(self._batch)
            self._batch.clear()
            self._note()
        return self.report

    def _read(self, rows: Iterable[Read]) -> None:
        report, pacer, limit = self.report, self._pacer, self._limit
        if limit == 0:
            return
        for recorded_ns, _, _, outcome in rows:
            report.rows += 1
            if isinstance(outcome, MarketDataEvent):
                report.kinds[outcome.data.kind] += 1
                if pacer is not None and not self._until_due(pacer, recorded_ns):
                    report.unsent += 1
                    break
                if not self._batch:
                    self._batch_first_ns = recorded_ns
                self._batch.append(outcome)
                if len(self._batch) >= BATCH_EVENTS:
                    self._flush()
                    if self._look():
                        break
            else:
                self._leave_out(outcome)
            if report.rows == limit:
                break
            if not report.rows % ROWS_A_LOOK and self._look():
                break
        self._flush()

    def _leave_out(self, outcome: Skipped | BadRow) -> None:
        report = self.report
        if isinstance(outcome, Skipped):
            report.count_skipped(outcome)
            return
        report.count_bad(outcome)
        if self._on_bad is not None:
            self._on_bad(outcome)
        if self._max_bad is not None and report.bad > self._max_bad:
            raise IngestError(
                f"More than {self._max_bad} bad rows, the last in {outcome}. Check the file and "
                "the mapping, or raise --max-bad"
            )

    def _until_due(self, pacer: Pacer, recorded_ns: int) -> bool:
        """Waits until an event is due, after sending those before it; False if stopped."""
        while (wait_s := pacer.wait_s(recorded_ns)) > 0:
            if self._batch:
                self._flush()
                continue
            if self._look():
                return False
            self._wait(min(wait_s, _LONGEST_WAIT_S))
        return True

    def _flush(self) -> None:
        """Publishes the batch."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        report = self.report
        if self._publish is None:
            report.checked += len(batch)
            return
        left = self._store(self._publish, batch)
        if left:
            left = self._store_when_there_is_room(self._publish, left)
        report.unsent += len(left)
        if self._pacer is not None and not left:
            self._pacer.sent(self._batch_first_ns)

    def _store(self, publish: Publish, batch: Sequence[Event]) -> Sequence[Event]:
        """Publishes a batch; returns what there is no room for."""
        report = self.report
        receipts: Sequence[PublishReceipt]
        left: Sequence[Event] = ()
        self._full = None
        try:
            receipts = publish(batch)
        except BacklogFull as full:
            self._full = full
            receipts, left = full.receipts, full.left
        except BaseException:
            report.uncertain += len(batch)
            raise
        duplicates = sum(receipt.duplicate for receipt in receipts)
        report.duplicates += duplicates
        report.published += len(receipts) - duplicates
        return left

    def _store_when_there_is_room(self, publish: Publish, left: Sequence[Event]) -> Sequence[Event]:
        """Publishes again and again what there was no room for; returns what is left if the run is
        stopped.

        Raises:
          BacklogFull: There was none for too long.
        """
        began_s = moved_s = self._clock_s()
        try:
            while left and not self._look():
                try:
                    self._wait(_ROOM_LOOK_S)
                except BaseException:
                    self.report.unsent += len(left)
                    raise
                before, left = len(left), self._store(publish, left)
                now_s = self._clock_s()
                if len(left) < before:
                    moved_s = now_s
                elif now_s - moved_s >= self._room_timeout_s and self._full is not None:
                    self.report.unsent += len(left)
                    raise self._full
        finally:
            self.report.waited_s += self._clock_s() - began_s
        return left

    def _look(self) -> bool:
        """Shows progress; True if the run is to end."""
        self._note()
        if self._stopped is not None and self._stopped():
            self.report.interrupted = True
        return self.report.interrupted

    def _note(self) -> None:
        self.report.seconds = self._clock_s() - self._start_s
        if self._pacer is not None:
            self.report.most_behind_s = self._pacer.most_behind_s
        if self._on_progress is not None:
            self._on_progress(self.report)
