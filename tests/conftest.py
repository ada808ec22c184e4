"""Fixtures that every test may use. All of them talk to real servers.

    server       the session's shared embedded server (a unix socket, and a TCP port)
    redis_url    its unix URL; tests keep apart by `namespace`, not by database
    namespace    a name that no other test has
    client       a redis-py client of the shared server
    own_server   makes private servers, for tests that kill, restart or configure theirs
    proxy        a cutting proxy in front of the shared server
    data_dir     a path for an embedded server of the test (not yet made)
    short_temp, sleeping_server   see `tests.support.embedded`

After each test every child process that `tests.support` started is killed.

Side by side (`make test`, by xdist) each process has a shared server of its own, and some tests
have the machine for themselves: see `tests.support.alone`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
import redis

from streamatiq.broker.embedded import EmbeddedServer
from tests.support import CuttingProxy, kill_leftovers
from tests.support.alone import Turns, is_alone
from tests.support.embedded import data_dir, short_temp, sleeping_server

#: Fixtures of `tests.support`, known to every test by being names of this module.
__all__ = ["data_dir", "short_temp", "sleeping_server"]

#: Name of a property of tests' reports, which travel from one process to another: a figure.
FIGURE = "figure"

# How many examples a property is tried with; `make soak` takes the long form.
hypothesis.settings.register_profile("short", max_examples=25, deadline=None)
hypothesis.settings.register_profile("long", max_examples=500, deadline=None)
hypothesis.settings.load_profile("short")

_namespace_numbers = itertools.count(1)
_turns = pytest.StashKey[Turns]()


class OwnServer(Protocol):
    """Ensures a server on the directory `name` of this test; the same name again restarts it."""

    def __call__(
        self, name: str = "data", *, port: int | None = None, start_timeout_s: float = 10.0
    ) -> EmbeddedServer: ...


def pytest_configure(config: pytest.Config) -> None:
    """Side by side, tests take turns; their children run without coverage."""
    if hasattr(config, "workerinput"):
        # It makes every start of a process twice as slow, and what they run is measured here too.
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
        turns = Turns(Path(config.option.basetemp).parent)
        config.stash[_turns] = turns
        config.add_cleanup(turns.close)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each test by itself, but those that want to be alone in one process, one after the other."""
    from xdist.scheduler import LoadScopeScheduling  # imported only where it runs

    class OneByOne(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "alone" if is_alone(nodeid) else nodeid

    return OneByOne(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures of fault tests; here, for side by side other folders' hooks are not run."""
    lines = [
        str(line)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, line in report.user_properties
        if name == FIGURE
    ]
    if lines:
        terminalreporter.section("figures of faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of the time limit
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Wait for the test's turn."""
    turns = item.config.stash.get(_turns, None)
    if turns is None:
        return (yield)
    turns.begin(alone=is_alone(item.nodeid))
    try:
        return (yield)
    finally:
        turns.end(keep=nextitem is not None and is_alone(nextitem.nodeid))


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Kill what the test started through `tests.support`, however it ended."""
    yield
    kill_leftovers()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The shared server. Do not stop, flush or configure it: take `own_server` for that."""
    with EmbeddedServer.ensure(tmp_path_factory.mktemp("server"), port=0) as shared:
        yield shared


@pytest.fixture
def redis_url(server: EmbeddedServer) -> str:
    """The unix URL of the shared server."""
    return server.url


@pytest.fixture
def namespace() -> str:
    """A namespace of this test alone; unique because the shared server lives one session."""
    return f"test{next(_namespace_numbers)}"


@pytest.fixture
def open_client() -> Iterator[Callable[[str], redis.Redis]]:
    """Open redis-py clients by URL (protocol 2, bytes); all are closed after the test."""
    opened: list[redis.Redis] = []

    def open_one(url: str) -> redis.Redis:
        opened.append(redis.Redis.from_url(url, protocol=2, decode_responses=False))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def client(open_client: Callable[[str], redis.Redis], redis_url: str) -> redis.Redis:
    """A client of the shared server."""
    return open_client(redis_url)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    """A factory of private servers, all stopped after the test."""
    started: list[EmbeddedServer] = []

    def ensure(
        name: str = "data", *, port: int | None = None, start_timeout_s: float = 10.0
    ) -> EmbeddedServer:
        started.append(
            EmbeddedServer.ensure(tmp_path / name, port=port, start_timeout_s=start_timeout_s)
        )
        return started[-1]

    yield ensure
    for one in started:
        one.stop()


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[CuttingProxy]:
    """A proxy in front of the shared server; a test tells it which replies to cut."""
    with CuttingProxy(server.url) as between:
        yield between
