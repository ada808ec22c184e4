"""A handler's state: bytes that are committed together with the end of each event.

What the next event finds is what the last committed one has left, whatever process died in between:
the settle script writes the state, the emitted events and the done mark in one step. A run that
worked with a state which is not the committed one any more is void (`settle.lua` compares a token),
and the event runs again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from ..broker import Subscription, current_delivery
from ..broker.settlements import StateWrite
from ..errors import HandlerDefinitionError, HandlerError, StateTooLarge

__all__ = ["HandlerState", "StateRun", "check_state", "checkpointed"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]{0,63}")
#: Bytes of a state, where nothing else is said.
SIZE_LIMIT = 64 * 1024
#: Most that may be asked for, bytes: each event sends it to the server.
MAX_SIZE_LIMIT = 1024 * 1024


class HandlerState:
    """The state of a handler; made by `checkpointed`.

    Attributes:
      name: Its name.
      size_limit: Bytes that it may have.
    """

    def __init__(self, name: str, size_limit: int) -> None:
        self.name = name
        self.size_limit = size_limit

    def get(self) -> bytes | None:
        """What the last event of this partition has left; None: nothing yet. Inside the handler.

        Raises:
          HandlerError: Called from elsewhere.
        """
        return self._run("get").get()

    def set(self, value: bytes) -> None:
        """What the next event of this partition is to find, if this one succeeds. Of several calls
        the last one counts.

        Raises:
          StateTooLarge: It has more bytes than `size_limit`.
          HandlerError: `value` is not bytes, or it is called from elsewhere.
        """
        run = self._run("set")
        if not isinstance(value, bytes):
            raise HandlerError(
                f"State {self.name!r}: set({value!r:.80}) is a {type(value).__name__}; encode it "
                "as bytes, for example json.dumps(value).encode()."
            )
        if len(value) > self.size_limit:
            raise StateTooLarge(
                f"State {self.name!r} would have {len(value):,} bytes, and its size_limit is "
                f"{self.size_limit:,}. Keep less in it, use more partitions, or declare "
                f"checkpointed({self.name!r}, size_limit=...) with up to {MAX_SIZE_LIMIT:,}."
            )
        run.set(value)

    def _run(self, method: str) -> StateRun:
        delivery = current_delivery.get()
        run = None if delivery is None or delivery.settled else delivery.state
        if not isinstance(run, StateRun) or run.state is not self:
            raise HandlerError(
                f"{method}() of state {self.name!r} was called outside of its handler. Declare the "
                "handler with @on(..., ordered=True, state=...) and call it while that runs; in "
                "tests, run it with streamatiq.testing.TestBroker."
            )
        return run

    def __repr__(self) -> str:
        return f"checkpointed({self.name!r}, size_limit={self.size_limit})"


class StateRun:
    """A handler's state as one run knows it. For the thread that runs it.

    Parameters:
      state: Which one.
      field: Where it stands in the state hash.
      token: With which it was read; empty: there was none.
      value: What was read.
      known: Where it is remembered for the next run: token and value by hash and field.
      at: By what name it is remembered.
    """

    def __init__(
        self,
        state: HandlerState,
        field: str,
        token: bytes,
        value: bytes | None,
        known: dict[Any, tuple[bytes, bytes | None]],
        at: Any,
    ) -> None:
        self.state = state
        self._field = field
        self._token = token
        self._value = value
        self._known = known
        self._at = at
        self._touched = self._changed = False
        self._written: tuple[StateWrite, ...] | None = None

    def get(self) -> bytes | None:
        self._touched = True
        return self._value

    def set(self, value: bytes) -> None:
        self._touched = self._changed = True
        self._value = value

    def writes(self) -> Sequence[StateWrite]:
        """See `RunningState`. The same again if it is called again."""
        if self._written is None:
            if not self._touched:
                self._written = ()
            elif not self._changed:
                self._written = (StateWrite(self._field, self._token, b""),)
            else:
                assert self._value is not None
                token = os.urandom(8)
                self._known[self._at] = (token, self._value)
                self._written = (StateWrite(self._field, self._token, token + self._value),)
        return self._written


def checkpointed(name: str, *, size_limit: int = SIZE_LIMIT) -> HandlerState:
    """Declares the state of a handler.

    Give it to the handler, and call `get` and `set` in there:

        seen = checkpointed("gaps")

        @on(MarketDataEvent, ordered=True, state=seen)
        def watch(event): ...

    There is one state for each partition of each type that the handler reads. It commits in one
    step with the end of the event, what that emitted, and its done mark; if the handler fails, or
    its process dies, nothing of it has happened. A state that was read and not changed counts, too:
    what is emitted follows from a state that was committed. Events of one partition run one by one,
    in the order of the log. It is part of every checkpoint, and put back with it.

    Parameters:
      name: Stored on the server; another name begins with nothing. Letters, digits, `.`, `_`, `-`.
      size_limit: Bytes, at most 1 MiB. All of it is sent with every event that changes it.

    Raises:
      HandlerDefinitionError: A parameter is wrong.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise HandlerDefinitionError(
            f"{name!r:.80} cannot be the name of a state: use a letter or _ and then letters, "
            "digits, '.', '_' and '-', 64 at most."
        )
    if not isinstance(size_limit, int) or not 1 <= size_limit <= MAX_SIZE_LIMIT:
        raise HandlerDefinitionError(
            f"State {name!r}: size_limit is {size_limit!r:.80}; use bytes from 1 to "
            f"{MAX_SIZE_LIMIT:,}."
        )
    return HandlerState(name, size_limit)


def check_state(subscription: Subscription, state: object) -> None:
    """Whether a subscription can have `state`.

    Raises:
      HandlerDefinitionError: It cannot.
    """
    name = f"Handler {subscription.name!r}"
    if not isinstance(state, HandlerState):
        raise HandlerDefinitionError(
            f"{name}: state is {state!r:.80}; use what checkpointed(...) has returned."
        )
    if not subscription.ordered:
        raise HandlerDefinitionError(
            f"{name}: state={state!r} needs ordered=True: where events of a partition run at the "
            "same time, none of them has the state that the one before has left."
        )
    for option in ("batch", "conflate"):
        if getattr(subscription, option):
            raise HandlerDefinitionError(
                f"{name}: state={state!r} and {option}={getattr(subscription, option)!r} exclude "
                "each other: a state goes on from event to event."
            )
