"""`streamatiq ingest` as a user runs it, against a real server."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.support import CuttingProxy, Finished, run_python, start_python, wait_until

from streamatiq.broker import RedisStreamsBroker
from streamatiq.events import MarketDataEvent

CLI = "import sys; from streamatiq.cli import main; sys.exit(main())"
HEADER = "key,ts_event,price,size\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """1,200 trades, two bad rows among them."""
    rows = [f"V:S{n % 7},{n},{n}.50,1" for n in range(1, 1201)]
    rows[100] = "V:S,1,not a price,1"
    rows[1100] = "V:S"
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def env(redis_url: str, namespace: str) -> dict[str, str | None]:
    return {"STREAMATIQ_REDIS__URL": redis_url, "STREAMATIQ_NAMESPACE": namespace}


@pytest.fixture
def ingest(env: dict[str, str | None], tmp_path: Path) -> Callable[..., Finished]:
    def ingest(*arguments: object, **over: str) -> Finished:
        return run_python(
            CLI, "ingest", *map(str, arguments), env={**env, **over}, cwd=tmp_path, check=False
        )

    return ingest


@pytest.fixture
def stored(redis_url: str, namespace: str) -> Iterator[Callable[[], list[MarketDataEvent]]]:
    """What stands in the log, in its order."""
    broker = RedisStreamsBroker(url=redis_url, namespace=namespace)
    yield lambda: [entry.event for entry in broker.logs.read(MarketDataEvent)]
    broker.close()


def counts(finished: Finished) -> dict[str, int]:
    """The numbers of the report."""
    found = re.findall(r"^(\w[\w ]*?)  +([\d,]+)", finished.stdout, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in found}


def test_every_good_row_is_in_the_log_once_and_in_order(
    ingest: Callable[..., Finished], stored: Callable[[], list[MarketDataEvent]], file: Path
) -> None:
    first = ingest(file)
    assert first.returncode == 3, first.stderr
    assert f"{file}, line 102: " in first.stdout
    assert f"{file}, line 1102: has 1 cells for 4 columns" in first.stdout
    told = counts(first)
    assert (told["rows read"], told["published"], told["bad rows"]) == (1200, 1198, 2)
    expected = [n for n in range(1, 1201) if n not in (101, 1101)]
    assert [event.ts_event for event in stored()] == expected
    assert str(stored()[0].data.price) == "1.50"  # type: ignore[union-attr]  # they are trades
    assert all(event.ts_published for event in stored())

    again = counts(ingest(file))
    assert (again["published"], again["duplicates"]) == (0, 1198)
    assert len(stored()) == 1198


def test_lost_replies_lead_to_no_second_event(
    ingest: Callable[..., Finished],
    stored: Callable[[], list[MarketDataEvent]],
    file: Path,
    proxy: CuttingProxy,
) -> None:
    proxy.cut_reply(b"EVALSHA", times=2)
    finished = ingest(file, STREAMATIQ_REDIS__URL=proxy.url)
    assert finished.returncode == 3, finished.stderr
    assert proxy.cuts == 2
    told = counts(finished)
    assert told["published"] + told["duplicates"] == 1198
    assert len(stored()) == 1198


def test_ctrl_c_ends_between_batches_with_an_honest_report(
    env: dict[str, str | None], stored: Callable[[], list[MarketDataEvent]], tmp_path: Path
) -> None:
    path = tmp_path / "slow.csv"
    path.write_text(HEADER + "".join(f"V:S,{n * 10**7},{n},1\n" for n in range(1, 100_000)))
    child = start_python(CLI, "ingest", "--speed", "1", str(path), env=env, cwd=tmp_path)
    wait_until(lambda: len(stored()) > 20, 10.0, "the first events")
    child.signal(signal.SIGINT)
    finished = child.wait()
    assert finished.returncode == 130, finished.stderr
    assert "interrupted before the end" in finished.stdout
    told = counts(finished)
    assert told["published"] == len(stored())
    assert told["rows read"] == told["published"] + told.get("unsent", 0)
    assert finished.stderr == ""


def subscribed(
    redis_url: str, namespace: str, name: str
) -> tuple[RedisStreamsBroker, redis.Redis, str]:
    """A subscription whose workers are down: a broker, a client, and the stream's key."""
    broker = RedisStreamsBroker(url=redis_url, namespace=namespace)
    client = broker.client()
    entries = broker.keys.log("market_data", "0").entries
    client.execute_command("XGROUP", "CREATE", entries, name, "0", "MKSTREAM", "ENTRIESREAD", 0)
    return broker, client, entries


def test_a_full_log_is_waited_for_and_nothing_is_lost(
    env: dict[str, str | None],
    redis_url: str,
    namespace: str,
    stored: Callable[[], list[MarketDataEvent]],
    file: Path,
) -> None:
    broker, client, entries = subscribed(redis_url, namespace, "slow")
    limits = {
        "STREAMATIQ_EVENT_BUS__MAX_QUEUE_SIZE": "300",
        # Neither of these is what a file should meet.
        "STREAMATIQ_EVENT_BUS__SHED": "market_data",
        "STREAMATIQ_EVENT_BUS__WHEN_FULL": "block",
    }
    child = start_python(CLI, "ingest", str(file), env={**env, **limits}, cwd=file.parent)
    most = 0
    while child.process.poll() is None:
        reply: Any = client.xreadgroup("slow", "c", {entries: ">"}, count=50)
        ids = [entry_id for _, found in reply for entry_id, _ in found]
        (info,) = client.xinfo_groups(entries)
        most = max(most, info["pending"] + info["lag"])
        if ids:
            client.xack(entries, "slow", *ids)
    finished = child.wait()
    client.close()
    broker.close()
    assert finished.returncode == 3, finished.stderr
    assert counts(finished)["published"] == 1198
    assert "s for room in a full log" in finished.stdout
    assert len(stored()) == 1198
    assert most == 300


def test_a_log_that_stays_full_is_one_line(
    ingest: Callable[..., Finished], redis_url: str, namespace: str, file: Path
) -> None:
    broker, client, _ = subscribed(redis_url, namespace, "slow")
    client.close()
    finished = ingest("--room-timeout", "0.2", file, STREAMATIQ_EVENT_BUS__MAX_QUEUE_SIZE="300")
    broker.close()
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith(
        "streamatiq: error: The log 'market_data', part 0, is full: subscription 'slow' has 300 "
        "events to handle, and event_bus.max_queue_size is 300."
    )
    told = counts(finished)
    # Row 101 is bad.
    assert (told["rows read"], told["published"], told["unsent"]) == (501, 300, 200)


def test_a_server_that_cannot_be_reached_is_one_line(
    ingest: Callable[..., Finished], file: Path
) -> None:
    finished = ingest(
        file,
        STREAMATIQ_REDIS__URL="redis://127.0.0.1:1",
        STREAMATIQ_REDIS__MAX_RETRIES="0",
    )
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith("streamatiq: error: No connection to redis://127.0.0.1:1")
    assert counts(finished)["uncertain"] == 500
