"""Is this a server that we may trust with events? Asked once, when a worker starts."""

from __future__ import annotations

from ..errors import PermissionDenied, UnsafeServer, UnsupportedServer
from .connections import Link

__all__ = ["ServerInfo", "check_server"]

#: Oldest server: scripts with flags, XAUTOCLAIM that drops deleted entries, SET NX GET.
OLDEST = (7, 0)


class ServerInfo(dict[str, str]):
    """Fields of INFO."""

    @classmethod
    def parse(cls, text: str) -> ServerInfo:
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        return cls((name, value.strip()) for name, value in pairs)


def check_server(link: Link) -> ServerInfo | None:
    """Reads INFO and refuses a server that is too old or may evict data.

    Returns:
      What it says of itself; None where the user may not run INFO (then nothing was checked).

    Raises:
      UnsupportedServer: Older than Redis 7.0.
      UnsafeServer: maxmemory-policy is not noeviction.
      BrokerConnectionError: No connection.
    """
    where = link.endpoint.shown
    try:
        parts = [link.send("INFO", section) for section in ("server", "memory")]
    except PermissionDenied:
        return None
    info = ServerInfo.parse("\n".join(part.decode() for part in parts))
    # Valkey gives the Redis version that it is compatible with.
    version = info.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        raise UnsupportedServer(
            f"{where} is version {version}; Streamatiq needs Redis 7.0 or newer, or Valkey. "
            "Upgrade the server, or use redis.url: embedded://PATH."
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnsafeServer(
            f"{where} has maxmemory-policy {policy!r}, which may throw events away. Run "
            "CONFIG SET maxmemory-policy noeviction, and set it in the server's configuration."
        )
    return info
