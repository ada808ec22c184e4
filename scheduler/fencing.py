"""Connections of a leader: each script that goes over them first asks whether it still leads.

A process that was stopped for long (SIGSTOP, a suspended machine) wakes up in the middle of
anything, and somebody else leads by then. So whether it leads is not asked before a write but in
it: every script is given a preface that compares the epoch on the server, and ends it there with
LeadershipLost. That holds for each script there is, those of logs, queues and dead letters too.
Only scripts are changed: raw commands (`Link.send`) are for reading.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

from ..broker.calls import Call, Script, named_script
from ..broker.connections import Endpoint, Link, LinkPool, RetryPolicy
from ..errors import LeadershipLost

__all__ = ["FencedLink", "FencedLinks"]

T = TypeVar("T")

#: Longest pause between attempts to reach the server, seconds.
LONGEST_PAUSE_S = 1.0

_PREFACE = """\
local fence_leader, fence_own = table.remove(KEYS), table.remove(ARGV)
local fence_now = redis.call('GET', fence_leader)
if fence_now ~= fence_own then
  return redis.error_reply('NOTLEADER this is scheduler ' .. fence_own .. ', and the leader is '
    .. (fence_now or 'nobody'))
end
"""


@cache
def _fenced(plain: Script) -> Script:
    first, _, rest = plain.text.decode().partition("\n")
    return named_script(plain.name, f"{first}\n{_PREFACE}{rest}")


class FencedLink(Link):
    """A connection on which scripts run for one leader only. See `Link`.

    Parameters:
      leader: The key that tells who leads.
      own: What stands there while this process does.
    """

    def __init__(self, endpoint: Endpoint, leader: str, own: str) -> None:
        super().__init__(endpoint, name="streamatiq-scheduler")
        self._leader = leader
        self._own = own

    def run(self, call: Call[T]) -> T:
        """As of the base class.

        Raises:
          LeadershipLost: Somebody else leads; nothing was done.
        """
        return super().run(self._with_preface(call))

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """As of the base class; raises as `run`."""
        return super().run_many([self._with_preface(call) for call in calls])

    def _with_preface(self, call: Call[T]) -> Call[T]:
        if _PREFACE.encode() in call.script.text:
            return call  # the base class runs it again, since the server did not know the script
        keys, args = (*call.keys, self._leader), (*call.args, self._own)
        return Call(_fenced(call.script), keys, args, call.parse)


class FencedLinks(LinkPool):
    """Connections of one term of leadership. Thread-safe.

    Calls are repeated after lost connections until the term ends, however long that takes: what a
    run has to record does not get lost in an outage.

    Parameters:
      leader, own: As of `FencedLink`.
    """

    def __init__(self, endpoint: Endpoint, retry: RetryPolicy, leader: str, own: str) -> None:
        super().__init__(endpoint, RetryPolicy(None, min(retry.delay_s, LONGEST_PAUSE_S)))
        self._leader = leader
        self._own = own
        #: Set when the term has ended: nothing is repeated any more.
        self.ended = threading.Event()

    def new_link(self) -> Link:
        """A link of this term."""
        return FencedLink(self.endpoint, self._leader, self._own)

    def call(self, action: Callable[[Link], T]) -> T:
        """As of the base class, as often as it takes.

        Raises:
          LeadershipLost: The term is over.
          BrokerConnectionError: The connection is lost, and the term is over as far as we know.
        """
        if self.ended.is_set():
            raise LeadershipLost("This term of leadership is over.")
        with self.borrow() as link:
            return self.retry.backoff(wait=self.ended.wait, limit_s=LONGEST_PAUSE_S).repeat(
                lambda: action(link),
                max_retries=None,
                before_retry=link.close,
                first_at_once=link.is_open,
            )
