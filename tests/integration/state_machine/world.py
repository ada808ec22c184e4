"""The server, the proxy in front of it, and one namespace an example."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from tests.integration.faults.servers import PrivateServer
from tests.integration.state_machine.process import RETRY, WINDOW_MS, NumberedIdentity
from tests.integration.state_machine.shapes import Layout
from tests.integration.state_machine.snapshot import Snapshot
from tests.support import CuttingProxy

from streamatiq.broker.connections import Endpoint, Link, LinkPool
from streamatiq.broker.groups import ensure_groups
from streamatiq.broker.keys import Keys
from streamatiq.broker.logs import Logs
from streamatiq.broker.parts import parts

__all__ = ["Example", "World"]

#: What stands in every script call, and in nothing else.
SCRIPT_CALL = b"EVAL"


class World:
    """What lives as long as the test."""

    def __init__(
        self, ensure: Callable[..., Any], make_layout: Callable[[Keys], Layout] = Layout
    ) -> None:
        self.make_layout = make_layout
        self.server = PrivateServer(ensure)
        self.admin = self.server.client()
        self._numbers = itertools.count(1)
        self.examples = 0
        self.steps = 0
        self.settlements = 0

    def begin(self) -> Example:
        """An empty server and a namespace."""
        self.admin.flushall()
        self.examples += 1
        NumberedIdentity.numbers = itertools.count()
        return Example(self, f"machine{next(self._numbers)}")

    def restart(self) -> None:
        """Kill -9, and start again on what the append-only file holds."""
        self.server.kill()
        self.admin.connection_pool.disconnect()
        self.server.start()


class Example:
    """What lives as long as an example."""

    def __init__(self, world: World, namespace: str) -> None:
        self.world = world
        self.proxy = CuttingProxy(world.server.url)
        self.endpoint = Endpoint(self.proxy.url)
        self.keys = Keys(namespace)
        self.layout = world.make_layout(self.keys)
        self.links = LinkPool(self.endpoint, RETRY)
        self.logs = Logs(self.keys, self.links, window_ms=WINDOW_MS, clock_ns=lambda: 1)
        self.log_keys = {}
        for cls in {cls for one in self.layout.subscriptions for cls in one.event_classes}:
            self.logs.check_layout(cls)
            for part in parts(cls.log):
                log = self.keys.log(cls.event_type, part)
                self.log_keys[log.entries] = log
        link = Link(self.endpoint)
        for sources in self.layout.sources.values():
            ensure_groups(link, sources, "0")
        link.close()

    @property
    def admin(self) -> redis.Redis:
        """Straight to the server."""
        return self.world.admin

    def observe(self) -> Snapshot:
        return Snapshot.take(self.admin, self.layout, self.log_keys)

    @contextmanager
    def cutting(self, times: int, after: int = 0, keep_bytes: int = 0) -> Iterator[None]:
        """The replies of the next script calls are lost."""
        self.proxy.cut_reply(SCRIPT_CALL, after=after, times=times, keep_bytes=keep_bytes)
        try:
            yield
        finally:
            self.proxy.cut_reply(times=0)

    def cut_off(self) -> None:
        """Every connection of clients is lost, between two calls."""
        self.admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.proxy.drop_connections()

    def restart(self) -> None:
        self.world.restart()
        self.proxy.drop_connections()

    def close(self) -> None:
        self.links.close()
        self.proxy.close()
