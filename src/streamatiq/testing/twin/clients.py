"""Who is connected, whose turn it is, and who waits.

A command that concerns clients, scripts or the server itself is done here (`_OWN`); all others come
from the table (`commands`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from dramatiq.logging import get_logger

from . import (  # noqa: F401 - each of them enters its commands into the table
    group_commands,
    hash_commands,
    key_commands,
    sorted_set_commands,
    stream_commands,
)
from .commands import Args, integer, known
from .lua import Scripts
from .reading_commands import blocking_ms, pinned
from .replies import NULL_ARRAY, OK, CommandError, Reply, Status
from .session import Session, Waiting
from .store import Store

__all__ = ["Clients"]

OOM = "OOM command not allowed when used memory > 'maxmemory'."

#: What INFO tells: no more than a client must know.
_INFO = """# Server
redis_version:7.2.4
server_name:streamatiq-twin
redis_mode:standalone
process_id:{pid}
run_id:{run_id}

# Clients
connected_clients:{clients}
blocked_clients:{blocked}

# Memory
used_memory:0
maxmemory:0
maxmemory_policy:noeviction

# Replication
role:master
"""


class Clients:
    """All sessions, in one thread.

    Parameters:
      store: The data.
    """

    def __init__(self, store: Store) -> None:
        self.logger = get_logger(__name__, type(self))
        self._store = store
        self.scripts = Scripts(store)
        self.sessions: dict[int, Session] = {}
        self._run_id = os.urandom(20).hex()
        self._last_id = 0
        #: Those that wait, the longest first.
        self._waiting: list[Session] = []
        #: Those that have something to send, or are to be closed.
        self._touched: dict[int, Session] = {}
        self._own: dict[bytes, Callable[[Session, Args], Reply]] = {
            b"PING": lambda _, args: args.take() if args.left else Status(b"PONG"),
            b"ECHO": lambda _, args: args.take(),
            b"SELECT": lambda _, args: OK,
            b"AUTH": lambda _, args: OK,
            b"HELLO": self._hello,
            b"INFO": self._info,
            b"CLIENT": self._client,
            b"SCRIPT": self._script,
            b"EVAL": self._eval,
            b"EVALSHA": self._evalsha,
            b"WAIT": lambda _, args: 0,
            b"MULTI": self._multi,
            b"EXEC": self._exec,
            b"DISCARD": self._discard,
            b"WATCH": self._watch,
            b"UNWATCH": self._unwatch,
            b"COMMAND": lambda _, args: [],
        }

    # -- sessions ------------------------------------------------------------------------------

    def open(self, sock: socket.socket) -> Session:
        """Takes in a new client."""
        self._last_id += 1
        self._store.tick()
        session = Session(self._last_id, sock, since_us=self._store.now_us)
        self.sessions[session.id] = session
        return session

    def close(self, session: Session) -> bool:
        """Forgets a client; False if it was forgotten before."""
        if session in self._waiting:
            self._waiting.remove(session)
        self._touched.pop(session.id, None)
        return self.sessions.pop(session.id, None) is not None

    def take_touched(self) -> list[Session]:
        """Those that have something to send, or are to be closed; each once."""
        touched, self._touched = self._touched, {}
        return list(touched.values())

    # -- turns ---------------------------------------------------------------------------------

    def work(self, session: Session) -> None:
        """Does what `session` has sent, until it is done or waits."""
        self._touched[session.id] = session
        while session.requests and session.waiting is None and not session.closing:
            words = session.requests.popleft()
            self._store.tick()
            before = self._store.writes
            reply = self._answer(session, words)
            wait_ms = self._wait_ms(words) if reply is NULL_ARRAY else None
            if wait_ms is None:
                session.answer(reply)
            else:
                until_us = self._store.now_us + wait_ms * 1000 if wait_ms else None
                session.waiting = Waiting(pinned(words, self._store), until_us)
                self._waiting.append(session)
            if self._store.writes != before:
                self._serve_waiting()

    def time_out(self) -> None:
        """Ends waits whose time is over."""
        self._store.tick()
        for session in list(self._waiting):
            until_us = session.waiting.until_us if session.waiting else None
            if until_us is not None and until_us <= self._store.now_us:
                self._end_wait(session, NULL_ARRAY)

    def next_deadline_us(self) -> int | None:
        """When the next wait is over; None if none ends by itself."""
        waits = (session.waiting for session in self._waiting)
        return min((one.until_us for one in waits if one and one.until_us), default=None)

    def _serve_waiting(self) -> None:
        for session in list(self._waiting):
            if session.waiting is None:
                continue
            reply = self._command(session.waiting.words)
            if reply is not NULL_ARRAY:
                self._end_wait(session, reply)

    def _end_wait(self, session: Session, reply: Reply) -> None:
        self._waiting.remove(session)
        session.waiting = None
        session.answer(reply)
        self.work(session)

    def _wait_ms(self, words: list[bytes]) -> int | None:
        try:
            return blocking_ms(words)
        except CommandError:
            return None

    def _answer(self, session: Session, words: list[bytes]) -> Reply:
        name = words[0].upper()
        if session.queued is not None and name not in (b"EXEC", b"DISCARD", b"MULTI"):
            session.queued.append(words)
            return Status(b"QUEUED")
        own = self._own.get(name)
        if own is None:
            return self._command(words)
        try:
            return own(session, Args(words[1:]))
        except CommandError as error:
            return error
        except Exception as error:
            self.logger.exception("The twin cannot do %r.", words[:3])
            return _bug(error)

    def _command(self, words: list[bytes]) -> Reply:
        try:
            wanted = known(words[0])
            if wanted.grows and self.scripts.full:
                raise CommandError(OOM)
            return wanted(self._store, words[1:])
        except CommandError as error:
            return error
        except Exception as error:
            self.logger.exception("The twin cannot do %r.", words[:3])
            return _bug(error)

    # -- scripts -------------------------------------------------------------------------------

    def _eval(self, session: Session, args: Args) -> Reply:
        return self._run(self.scripts.load(args.take()), args)

    def _evalsha(self, session: Session, args: Args) -> Reply:
        return self._run(args.take().decode("ascii", "replace"), args)

    def _run(self, sha: str, args: Args) -> Reply:
        count = args.integer()
        if count < 0:
            raise CommandError("ERR Number of keys can't be negative")
        if count > args.left:
            raise CommandError("ERR Number of keys can't be greater than number of args")
        words = args.rest()
        return self.scripts.run(sha, words[:count], words[count:])

    def _script(self, session: Session, args: Args) -> Reply:
        action = args.option(b"LOAD", b"EXISTS", b"FLUSH")
        if action == b"LOAD":
            return self.scripts.load(args.take()).encode()
        if action == b"EXISTS":
            return [int(self.scripts.knows(sha.decode())) for sha in args.rest()]
        if action == b"FLUSH":
            self.scripts.forget()
            return OK
        raise CommandError("ERR unknown SCRIPT subcommand (in the in-memory twin)")

    # -- transactions --------------------------------------------------------------------------

    def _multi(self, session: Session, args: Args) -> Reply:
        if session.queued is not None:
            raise CommandError("ERR MULTI calls can not be nested")
        session.queued = []
        return OK

    def _discard(self, session: Session, args: Args) -> Reply:
        if session.queued is None:
            raise CommandError("ERR DISCARD without MULTI")
        session.queued = None
        session.watched = {}
        return OK

    def _watch(self, session: Session, args: Args) -> Reply:
        if session.queued is not None:
            raise CommandError("ERR WATCH inside MULTI is not allowed")
        self._store.tick()
        for key in args.rest():
            session.watched.setdefault(key, self._store.content(key))
        return OK

    def _unwatch(self, session: Session, args: Args) -> Reply:
        session.watched = {}
        return OK

    def _exec(self, session: Session, args: Args) -> Reply:
        if session.queued is None:
            raise CommandError("ERR EXEC without MULTI")
        queued, session.queued = session.queued, None
        watched, session.watched = session.watched, {}
        if any(self._store.content(key) != content for key, content in watched.items()):
            return NULL_ARRAY
        return [self._answer(session, words) for words in queued]

    # -- the server ----------------------------------------------------------------------------

    def _hello(self, session: Session, args: Args) -> Reply:
        if args.left and integer(args.take()) != 2:
            raise CommandError(
                "NOPROTO unsupported protocol version: the in-memory twin speaks protocol 2 only; "
                "connect with protocol=2"
            )
        return [
            b"server", b"redis", b"version", b"7.2.4", b"proto", 2, b"id", session.id,
            b"mode", b"standalone", b"role", b"master", b"modules", [],
        ]  # fmt: skip

    def _info(self, session: Session, args: Args) -> Reply:
        wanted = {word.decode().lower() for word in args.rest()} - {"all", "default", "everything"}
        text = _INFO.format(
            pid=os.getpid(),
            run_id=self._run_id,
            clients=len(self.sessions),
            blocked=len(self._waiting),
        )
        sections = [
            part
            for part in text.split("\n\n")
            if not wanted or part.partition("\n")[0].removeprefix("# ").lower() in wanted
        ]
        return "\r\n\r\n".join(sections).replace("\n", "\r\n").replace("\r\r", "\r").encode()

    def _client(self, session: Session, args: Args) -> Reply:
        action = args.take().upper()
        if action == b"ID":
            return session.id
        if action == b"LIST":
            return self._list(args)
        if action == b"UNBLOCK":
            return self._unblock(args)
        if action == b"KILL":
            return self._kill(args)
        if action == b"SETNAME":
            session.name = args.take()
            return OK
        if action == b"GETNAME":
            return session.name or None
        if action in (b"SETINFO", b"NO-EVICT", b"NO-TOUCH"):
            return OK
        raise CommandError(
            f"ERR unknown CLIENT subcommand '{action.decode('utf-8', 'replace')}' (in the "
            "in-memory twin)"
        )

    def _list(self, args: Args) -> Reply:
        wanted = list(self.sessions)
        if args.option(b"ID"):
            wanted = [integer(word, "ERR Invalid client ID") for word in args.rest()]
        lines = []
        for one in filter(None, map(self.sessions.get, wanted)):
            age_s = (self._store.now_us - one.since_us) // 1_000_000
            flags = b"b" if one.waiting else b"N"
            lines.append(
                b"id=%d addr=twin:0 name=%s age=%d flags=%s db=0 cmd=client user=default resp=2\n"
                % (one.id, one.name, age_s, flags)
            )
        return b"".join(lines)

    def _unblock(self, args: Args) -> Reply:
        other = self.sessions.get(args.integer())
        how = args.option(b"TIMEOUT", b"ERROR")
        if other is None or other.waiting is None:
            return 0
        if how == b"ERROR":
            self._end_wait(other, CommandError("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
        else:
            self._end_wait(other, NULL_ARRAY)
        return 1

    def _kill(self, args: Args) -> Reply:
        if not args.option(b"ID"):
            raise CommandError("ERR the in-memory twin knows CLIENT KILL ID only")
        other = self.sessions.get(args.integer())
        if other is None:
            return 0
        other.closing = True
        self._touched[other.id] = other
        return 1


def _bug(error: Exception) -> CommandError:
    return CommandError(f"ERR the in-memory twin failed: {error!r}")
