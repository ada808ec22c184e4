"""`Replay`: what `replay(...)` returns. Iterate over it, or `run` it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Any

from .controls import Status
from .engine import MAX_BATCH, Batch, Engine, Wait
from .items import Replayed
from .job import ReplayJob, Stopped
from .report import ReplayReport
from .spec import Speed
from .workers import ReplayWorkers

__all__ = ["Replay"]

#: Between two batches for a target that have a due time, ns: a round trip is not made for each
#: event of a busy replay.
REST_NS = 1_000_000
#: Events between two looks at what else the event loop has to do.
ASYNC_TURN = 256


class Replay:
    """A replay: `for item in replay(...)`, `async for`, or `run()`.

    Items come in the order (time, type, partition or lane, entry id), each when it is due, and with
    its place in the log. A late one is not skipped. A loop that is left goes on where it stood when
    it is begun anew. With a target, an item has been delivered there before the loop sees it.

    One thread or task iterates. Any thread may pause, resume, step, seek, change the speed, cancel;
    inside the loop too. A loop over a paused replay waits for another thread to resume it.

    Parameters:
      engine: What comes when.
      job: Where it goes, and how that is kept; None: nowhere, nothing is stored.
      workers: Processes that handle it where it goes.
      output: Reads the digest of what they have put out.
    """

    def __init__(
        self,
        engine: Engine,
        job: ReplayJob | None = None,
        *,
        workers: ReplayWorkers | None = None,
        output: Callable[[], str] | None = None,
    ) -> None:
        self._engine = engine
        self._job = job
        self._workers = workers
        self._read_output = output
        self._output = ""

    @property
    def replay_id(self) -> str | None:
        """Its id on the server; None: it is not stored."""
        return None if self._job is None else self._job.replay_id

    # -- driving -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Replayed]:
        with closing(self._batches(1)) as batches:
            for batch in batches:
                yield from batch.items

    def run(
        self,
        on_event: Callable[[Replayed], object] | None = None,
        on_progress: Callable[[ReplayReport], object] | None = None,
    ) -> ReplayReport:
        """Runs it to its end.

        Parameters:
          on_event: Called with each item.
          on_progress: Called with the report about once a second.

        Returns:
          The report; its status is `done`, `cancelled` or `interrupted`.

        Raises:
          ReplayTaken: Another process runs it, or has taken it over.
          ReplayRangeTrimmed: Events of its range were trimmed while it ran.
          EventDecodeError: An entry is no event.
          BrokerError: The server cannot be reached or refuses.
        """
        shown_s = 0.0
        for batch in self._batches(1 if on_event is not None else MAX_BATCH, ticks=True):
            if on_event is not None:
                for item in batch.items:
                    on_event(item)
            running_s = self._engine.progress.running_ns / 1e9
            if on_progress is not None and running_s >= shown_s + 0.5:
                shown_s = running_s
                on_progress(self.report())
        return self.report()

    async def arun(self, on_event: Callable[[Replayed], object] | None = None) -> ReplayReport:
        """`run` for a coroutine; the loop is free meanwhile. When the task is cancelled, so is the
        run: a stored replay is `interrupted` then, and can go on.

        Parameters:
          on_event: Called with each item, in the loop's thread; awaited if it returns an awaitable.
        """
        if on_event is None:
            running = asyncio.create_task(asyncio.to_thread(self.run))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                self.interrupt()
                await running
                raise
        async for item in self:
            result = on_event(item)
            if hasattr(result, "__await__"):
                await result
        return self.report()

    def _batches(self, limit: int, *, ticks: bool = False) -> Generator[Batch, None, None]:
        engine, job = self._engine, self._job
        error: BaseException | None = None
        if job is not None:
            job.begin()
        try:
            self._start_workers()
            rest_ns = 0 if limit == 1 or job is None else REST_NS
            while (step := engine.poll(limit, rest_ns=rest_ns)) is not None:
                if isinstance(step, Wait):
                    engine.wait(step, None if job is None else job.due_in_s())
                    if ticks:
                        yield Batch([], [], 0)
                elif self._deliver(step):
                    yield step
                if job is not None:
                    job.tick()
            self._finish_workers()
        except Stopped as stopped:
            error = stopped
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(error)

    def _start_workers(self) -> None:
        if self._workers is not None and self._job is not None:
            self._workers.start(self._job.tick)

    def _finish_workers(self) -> None:
        """Waits until the workers have handled everything.

        Raises:
          Stopped: They have not, for the replay was interrupted.
        """
        workers, job = self._workers, self._job
        if workers is None or job is None or self._engine.status is not Status.DONE:
            return
        if not workers.drain(job.tick):
            raise Stopped
        if self._read_output is not None:
            self._output = self._read_output()

    def _end(self, error: BaseException | None) -> None:
        try:
            if self._workers is not None:
                self._workers.stop()
        finally:
            if self._job is not None:
                self._job.end(error, self._output)

    def _deliver(self, batch: Batch) -> bool:
        if self._job is not None:
            try:
                self._job.deliver(batch)
            except Stopped:
                return False
        self._engine.delivered(batch)
        return True

    async def __aiter__(self) -> AsyncIterator[Replayed]:
        engine, job = self._engine, self._job
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        error: BaseException | None = None
        turn = 0
        if job is not None:
            await asyncio.to_thread(job.begin)
            await asyncio.to_thread(self._start_workers)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has ended since
                loop.call_soon_threadsafe(woken.set)

        try:
            with engine.listening(wake):
                while (step := engine.poll(1, load=False)) is not None:
                    if isinstance(step, Batch):
                        if job is None or await asyncio.to_thread(self._deliver, step):
                            if job is None:
                                engine.delivered(step)
                            turn += 1
                            yield step.items[0]
                        if turn % ASYNC_TURN == 0:
                            await asyncio.sleep(0)
                    else:
                        await self._await(step, woken)
                    if job is not None and job.due_in_s() == 0:
                        await asyncio.to_thread(job.tick)
            if self._workers is not None:
                await asyncio.to_thread(self._finish_workers)
        except Stopped as stopped:
            error = stopped
        except BaseException as raised:
            error = raised
            raise
        finally:
            if job is not None:
                await asyncio.to_thread(self._end, error)

    async def _await(self, step: Wait, woken: asyncio.Event) -> None:
        """Waits as long as `step` says, or until somebody changes something."""
        engine = self._engine
        may_load = engine.must_load or engine.has_spare(step)
        if may_load and await asyncio.to_thread(engine.load):
            return
        left_s = engine.left_s(step, None if self._job is None else self._job.due_in_s())
        if left_s is None or left_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), left_s)
        woken.clear()

    # -- controls ------------------------------------------------------------------------------

    def pause(self) -> None:
        """Nothing more goes out. See `Engine` for what this and the others raise."""
        self._engine.pause()

    def resume(self) -> None:
        """It goes on where it stood."""
        self._engine.resume()

    def step(self, count: int = 1) -> None:
        """So many more events go out at once, then it is paused."""
        self._engine.step(count)

    def seek(self, to: Any) -> None:
        """Goes on at a time, or at a place: `item.place`, or TYPE/PART/ENTRY-ID."""
        self._engine.seek(to)
        if self._job is not None:
            self._job.save()

    def set_speed(self, speed: Speed) -> None:
        """Another speed from now on."""
        self._engine.set_speed(speed)

    def cancel(self) -> None:
        """Ends it."""
        self._engine.cancel()
        if self._workers is not None:
            self._workers.interrupt()

    def interrupt(self) -> None:
        """Stops driving it; a stored replay can be resumed, by another process too."""
        self._engine.interrupt()
        if self._workers is not None:
            self._workers.interrupt()

    # -- looking -------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What it does now."""
        return self._engine.status

    @property
    def position_ns(self) -> int | None:
        """The recorded time that it is now, ns; None before the first event."""
        return self._engine.position_ns

    def report(self) -> ReplayReport:
        """What it has done so far. Thread-safe."""
        status, progress = self._engine.snapshot()
        return ReplayReport.of(status.value, progress, self.replay_id, self._output)
