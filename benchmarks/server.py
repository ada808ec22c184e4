"""The one server that all systems of a run are measured on.

Our own embedded Valkey over loopback TCP (what users of RedisBroker have), `appendonly` with
`appendfsync everysec`; or any server by URL. Between two measures an own server is emptied and its
append-only file rewritten, so that no automatic rewrite falls into a measure. On a foreign server
only keys of the measure's own namespace are removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import redis

__all__ = ["BenchServer", "ServerUnavailable", "open_server"]

#: Seconds within which an empty append-only file must have been rewritten.
_REWRITE_TIMEOUT_S = 30.0

#: Keys removed with one command on a foreign server.
_UNLINK_COUNT = 500


class ServerUnavailable(Exception):
    """There is no server to measure on; the message says why."""


class BenchServer:
    """The server under all systems.

    Attributes:
        url: what the systems connect to.
        own: whether it is ours alone, and may be emptied.
    """

    def __init__(self, url: str, *, own: bool) -> None:
        self.url = url
        self.own = own
        self._redis = redis.Redis.from_url(url, socket_timeout=30)
        if own:
            self._redis.config_set("auto-aof-rewrite-percentage", 0)

    def reset(self, namespace: str) -> None:
        """Remove what a measure under `namespace` has left behind.

        Raises:
            TimeoutError: the append-only file was not rewritten in time.
        """
        if not self.own:
            keys = self._redis.scan_iter(match=f"*{namespace}*", count=_UNLINK_COUNT)
            batch: list[bytes] = []
            for key in keys:
                batch.append(key)
                if len(batch) == _UNLINK_COUNT:
                    self._redis.unlink(*batch)
                    batch.clear()
            if batch:
                self._redis.unlink(*batch)
            return
        self._redis.flushall()
        self._redis.bgrewriteaof()
        deadline = time.monotonic() + _REWRITE_TIMEOUT_S
        while self._is_rewriting():
            if time.monotonic() > deadline:
                raise TimeoutError("the server did not finish rewriting its append-only file")
            time.sleep(0.01)

    def used_memory(self) -> int:
        """Return the bytes that the server uses, without the buffers of clients and of its file."""
        info = self._info("memory")
        buffers = info["mem_clients_normal"] + info.get("mem_aof_buffer", 0)
        return int(info["used_memory"] - buffers)

    def commands(self) -> int:
        """Return how many commands the server has run so far, those of scripts included.

        INFO is left out: nobody but the bench asks for it.
        """
        stats: dict[str, dict[str, float]] = self._info("commandstats")
        return int(sum(s["calls"] for name, s in stats.items() if name != "cmdstat_info"))

    def cpu_s(self) -> float:
        """Return the CPU seconds that the server has used so far."""
        info = self._info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    def describe(self) -> dict[str, Any]:
        """Return its name, version and how it persists."""
        info = self._info("server")
        config = cast("dict[str, str]", self._redis.config_get("append*"))
        name = "Valkey" if "valkey_version" in info else "Redis"
        version = info.get("valkey_version", info["redis_version"])
        return {
            "server": f"{name} {version}",
            "appendonly": config.get("appendonly", "?"),
            "appendfsync": config.get("appendfsync", "?"),
            "embedded": self.own,
        }

    def close(self) -> None:
        """Close the bench's own connection."""
        self._redis.close()

    def _is_rewriting(self) -> bool:
        info = self._info("persistence")
        return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    def _info(self, section: str) -> dict[str, Any]:
        return self._redis.info(section)


@contextmanager
def open_server(url: str | None, data_dir: Path) -> Iterator[BenchServer]:
    """Give the server at `url`, or where that is None an own one on `data_dir`, stopped at the end.

    Raises:
        ServerUnavailable: it cannot be reached, or the own one cannot be started.
    """
    with ExitStack() as stack:
        own_url = _start_embedded(data_dir, stack) if url is None else None
        try:
            server = BenchServer(own_url or url or "", own=url is None)
            stack.callback(server.close)
            server.describe()
        except (redis.RedisError, ValueError) as error:
            raise ServerUnavailable(f"{own_url or url}: {error}") from error
        yield server


def _start_embedded(data_dir: Path, stack: ExitStack) -> str:
    try:
        # Only here: with a server given by URL the other systems can be measured without ours.
        from streamatiq import EmbeddedServer, StreamatiqError
    except ImportError as error:
        raise ServerUnavailable(f"streamatiq cannot be imported: {error}") from error
    try:
        return stack.enter_context(EmbeddedServer.ensure(data_dir, port=0)).tcp_url
    except StreamatiqError as error:
        raise ServerUnavailable(str(error)) from error
