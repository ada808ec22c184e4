"""Joins what several threads ask the server for at the same moment into one round trip.

The first thread that asks goes itself, at once. What the others ask while it is under way piles up;
when it comes back, one of them goes for all of those. So nothing waits when nothing else is asked,
and under load a round trip serves many: the committer's way, for threads that need the answer.

`_lock` guards `_waiting` and `_busy`, and the state of every ticket.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Combiner"]

A = TypeVar("A")
R = TypeVar("R")

#: What threads ask for that is joined, at most.
MOST = 64


class _Ticket(Generic[A, R]):
    """What one thread asks for. `gate` is locked until it has an answer, or is to go."""

    __slots__ = ("answer", "ask", "gate", "is_answered", "leads")

    def __init__(self, ask: A) -> None:
        self.ask = ask
        self.gate = threading.Lock()
        self.gate.acquire()
        self.answer: R | Exception
        self.is_answered = False
        self.leads = False


class Combiner(Generic[A, R]):
    """Thread-safe; starts afresh after a fork.

    Parameters:
      perform: Called with all that is asked for, in the order in which it was, in the thread of one
        of those who ask; returns for each the answer, or the error that only it is to see. What it
        raises, all see. It must be harmless to repeat: where the thread that goes is interrupted,
        another one goes for what is left. It must return in bounded time.
    """

    def __init__(self, perform: Callable[[Sequence[A]], Sequence[R | Exception]]) -> None:
        self._perform = perform
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket[A, R]] = deque()
        #: Whether a thread is under way, or is told to go.
        self._busy = False
        self._pid = os.getpid()

    def ask(self, ask: A) -> R:
        """The answer to `ask`; waits for at most two round trips, where at most `MOST` threads ask.

        Raises:
          Exception: What `perform` raised, or gave for this one.
        """
        if self._pid != os.getpid():
            self._forget()  # nobody of the parent's threads is here
        ticket: _Ticket[A, R] = _Ticket(ask)
        with self._lock:
            self._waiting.append(ticket)
            if not self._busy:
                self._busy = ticket.leads = True
        try:
            if not ticket.leads:
                ticket.gate.acquire()
        except BaseException:
            self._leave(ticket)
            raise
        if not ticket.is_answered:
            self._go()
        if isinstance(ticket.answer, Exception):
            raise ticket.answer
        return ticket.answer

    def _go(self) -> None:
        """Goes for all that waits. The ticket of the thread that goes is the first of them."""
        with self._lock:
            count = min(len(self._waiting), MOST)
            batch = [self._waiting.popleft() for _ in range(count)]
        try:
            for ticket, answer in zip(batch, self._answers(batch), strict=True):
                ticket.answer = answer
                ticket.is_answered = True
        finally:
            others = batch[1:]
            # Interrupted, if there are any: they are to go themselves.
            left = [ticket for ticket in others if not ticket.is_answered]
            with self._lock:
                self._waiting.extendleft(reversed(left))
                self._hand_over()
            for ticket in others:
                if ticket.is_answered:
                    ticket.gate.release()

    def _answers(self, batch: Sequence[_Ticket[A, R]]) -> Sequence[R | Exception]:
        try:
            return self._perform([ticket.ask for ticket in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who ask are told
            return [_for_each(error) for _ in batch]

    def _hand_over(self) -> None:
        """The next one goes, if there is one."""
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].gate.release()
        else:
            self._busy = False

    def _leave(self, ticket: _Ticket[A, R]) -> None:
        """The thread of `ticket` was interrupted while it waited: nobody waits for it."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if ticket.leads:
                self._hand_over()


def _for_each(error: Exception) -> Exception:
    """A copy: threads that raise one and the same would write into each other's traceback."""
    try:
        copy = type(error)(*error.args)
    except Exception:  # noqa: BLE001 - an error whose arguments are no longer known
        return error
    copy.__cause__, copy.__context__ = error.__cause__, error
    return copy
