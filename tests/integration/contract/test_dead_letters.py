"""Dead letters of work queues: read, counted, put back, purged, expired; by several at once too."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import CurrentMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.contract.kit import MakeBroker, StartWorker, stored_messages
from tests.support import CuttingProxy, wait_until

from streamatiq import Lane, RedisStreamsBroker, Settings
from streamatiq.broker import DeadLetterFilter
from streamatiq.broker import dead_letter_admin as admin
from streamatiq.broker.calls import script
from streamatiq.broker.connections import Link
from streamatiq.broker.dead_letter_entry import CAUSES
from streamatiq.errors import DeadLetterNotFound, WrongKeyType

ALL = DeadLetterFilter()
#: Letters of these tests are given up at this second, unless they say otherwise.
EPOCH_S = 1_750_000_000


def message(actor: str = "act", lane: str = "normal", **options: Any) -> bytes:
    """A message as it is stored."""
    return dramatiq.Message("default", actor, (1,), {}, {"priority": lane, **options}).encode()


def bury(
    client: redis.Redis,
    broker: RedisStreamsBroker,
    *,
    at_s: int = 0,
    number: int = 0,
    data: bytes | None = None,
    lane: str = "normal",
    cause: str = "failed",
    error: str = "ValueError: no",
    digest: str = "abcdef0123",
    queue: str = "default",
) -> str:
    """Adds a letter as the scripts do, at a time of the test's choice; returns its id."""
    fields: dict[Any, Any] = {
        "source": f"queue:{queue}:{lane}",
        "entry": "1-1",
        "data": message(lane=lane) if data is None else data,
        "cause": cause,
        "error": error,
        "traceback": "Traceback: ...",
        "attempts": 3,
        "consumer": "host:1:a",
        "at": 5,
        "digest": digest,
    }
    dead_id = f"{(EPOCH_S + at_s) * 1000}-{number}"
    client.xadd(broker.keys.queue(queue).dead, fields, id=dead_id)
    return dead_id


def ids(letters: Any) -> list[str]:
    return [letter.id for letter in letters]


def audit(client: redis.Redis, broker: RedisStreamsBroker) -> list[dict[str, Any]]:
    entries: Any = client.xrange(broker.keys.queue("default").lane(Lane.HIGH).audit)
    return [json.loads(fields[b"r"]) for _, fields in entries]


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(EPOCH_S + seconds, UTC)


# Reading


def test_letters_are_read_page_by_page_both_ways(
    broker: RedisStreamsBroker, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    buried = [bury(client, broker, at_s=n // 3, number=n % 3) for n in range(25)]
    monkeypatch.setattr("streamatiq.broker.dead_letter_reading.PAGE", 10)
    assert ids(broker.dead_letters("default")) == buried
    assert ids(broker.dead_letters("default", newest_first=True)) == buried[::-1]
    assert ids(broker.dead_letters("default", limit=4)) == buried[:4]
    assert ids(broker.dead_letters("default", after=buried[3], limit=4)) == buried[4:8]
    assert ids(broker.dead_letters("default", after=buried[8], newest_first=True)) == buried[7::-1]
    assert broker.count_dead_letters("default") == 25


def test_no_more_than_a_page_is_asked_for_at_once(
    broker: RedisStreamsBroker, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(25):
        bury(client, broker, number=n)
    monkeypatch.setattr("streamatiq.broker.dead_letter_reading.PAGE", 10)
    asked: list[tuple[Any, ...]] = []
    send = Link.send

    def noted(link: Link, *command: Any) -> Any:
        asked.append(command)
        return send(link, *command)

    monkeypatch.setattr(Link, "send", noted)
    letters = broker.dead_letters("default")
    next(letters)
    reads = [command for command in asked if command[0] == "XRANGE"]
    assert [command[-2:] for command in reads] == [("COUNT", 10)]
    assert len(list(letters)) == 24


def test_reading_goes_on_behind_a_letter_that_is_not_there_any_more(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    first, second, third = (bury(client, broker, number=n) for n in range(3))
    broker.purge_dead_letters("default", DeadLetterFilter(ids=[second]))
    assert ids(broker.dead_letters("default", after=second)) == [third]
    assert ids(broker.dead_letters("default", after=second, newest_first=True)) == [first]


def test_one_letter_is_found_by_its_id(broker: RedisStreamsBroker, client: redis.Redis) -> None:
    bury(client, broker)
    dead_id = bury(client, broker, number=1, error="KeyError: 'x'")
    letter = broker.dead_letter("default", dead_id)
    assert (letter.id, letter.queue, letter.subject) == (dead_id, "default", "act")
    assert letter.error == "KeyError: 'x'"
    assert letter.died_ms == EPOCH_S * 1000
    assert (letter.body() or {})["args"] == [1]
    with pytest.raises(DeadLetterNotFound, match="'default' has no dead letter 1-1: "):
        broker.dead_letter("default", "1-1")
    for wrong in ("1", "x-1", "1-", "", "1-1/"):
        with pytest.raises(ValueError, match="is no id of a dead letter"):
            broker.dead_letter("default", wrong)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (ALL, [0, 1, 2, 3]),
        (DeadLetterFilter(causes=["undecodable"]), [1]),
        (DeadLetterFilter(causes=["undecodable", "skipped"]), [1, 2]),
        (DeadLetterFilter(subjects=["act"]), [0, 2]),
        (DeadLetterFilter(subjects=["other"]), [3]),
        (DeadLetterFilter(error="TIME"), [0]),
        (DeadLetterFilter(digests=["ab"]), [0, 2]),
        (DeadLetterFilter(digests=["ab", "1"]), [0, 1, 2]),
        (DeadLetterFilter(since=at(10)), [1, 2, 3]),
        (DeadLetterFilter(until=at(10)), [0]),
        (DeadLetterFilter(since=at(10), until=at(30)), [1, 2]),
        (DeadLetterFilter(since=at(10) + timedelta(microseconds=1)), [2, 3]),
        (DeadLetterFilter(until=at(10) + timedelta(microseconds=1)), [0, 1]),
        (DeadLetterFilter(ids=[f"{EPOCH_S * 1000}-0", "9-9"]), [0]),
        (DeadLetterFilter(ids=[f"{EPOCH_S * 1000}-0"], causes=["skipped"]), []),
        (DeadLetterFilter(causes=["failed"], subjects=["act"], error="out"), [0]),
    ],
)
def test_every_condition_of_a_filter_holds(
    broker: RedisStreamsBroker, client: redis.Redis, where: DeadLetterFilter, found: list[int]
) -> None:
    buried = [
        bury(client, broker, error="ReadTimeout: 5 s", digest="abcdef0123"),
        bury(client, broker, at_s=10, cause="undecodable", data=b"junk", digest="1234567890"),
        bury(client, broker, at_s=20, cause="skipped", digest="abcd000000"),
        bury(client, broker, at_s=30, data=message("other"), digest="9999999999"),
    ]
    wanted = [buried[n] for n in found]
    assert ids(broker.dead_letters("default", where)) == wanted
    assert ids(broker.dead_letters("default", where, newest_first=True)) == wanted[::-1]
    assert broker.count_dead_letters("default", where) == len(wanted)


TIMES = st.none() | st.integers(-1, 6).map(at)
FILTERS = st.builds(
    DeadLetterFilter,
    causes=st.lists(st.sampled_from(CAUSES), max_size=2),
    error=st.sampled_from(["", "no", "YES"]),
    digests=st.lists(st.sampled_from(["a", "aa", "b"]), max_size=2),
    since=TIMES,
    until=TIMES,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=FILTERS, newest_first=st.booleans(), page=st.integers(1, 7))
def test_paging_with_any_filter_gives_what_a_plain_search_does(
    broker: RedisStreamsBroker,
    client: redis.Redis,
    where: DeadLetterFilter,
    newest_first: bool,
    page: int,
) -> None:
    if not broker.count_dead_letters("default"):
        for n in range(24):
            bury(
                client,
                broker,
                at_s=n // 5,
                number=n,
                cause=CAUSES[n % 4],
                error=("E: no", "E: yes")[n % 2],
                digest=("aa", "ab", "bb")[n % 3] * 5,
            )
    wanted = [one.id for one in broker.dead_letters("default") if where.matches(one)]
    found: list[str] = []
    after = None
    while True:
        letters = ids(
            broker.dead_letters(
                "default", where, after=after, limit=page, newest_first=newest_first
            )
        )
        if not letters:
            break
        found += letters
        after = letters[-1]
    assert found == (wanted[::-1] if newest_first else wanted)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"causes": ["died"]}, "'died' is no cause; use one of failed, undecodable,"),
        ({"digests": ["xyz"]}, "'xyz' is no digest"),
        ({"digests": [""]}, "'' is no digest"),
        ({"since": datetime(2026, 1, 1)}, "has no time zone"),
        ({"ids": "1-1"}, "ids is the text '1-1': give a list"),
    ],
)
def test_a_wrong_filter_says_what_is_wrong(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DeadLetterFilter(**fields)


def test_a_summary_counts_by_cause_and_by_bug(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    bury(client, broker)
    bury(client, broker, at_s=5, error="ValueError: newest")
    last = bury(client, broker, at_s=9, cause="skipped", digest="0123456789")
    summary = broker.dead_letter_summary("default")
    assert (summary.letters, summary.looked_at) == (3, 3)
    assert summary.causes == {"failed": 2, "skipped": 1}
    assert (summary.oldest_ms, summary.newest_ms) == (EPOCH_S * 1000, (EPOCH_S + 9) * 1000)
    often, once = summary.bugs
    assert (often.digest, often.letters, often.newest.error) == (
        "abcdef0123",
        2,
        "ValueError: newest",
    )
    assert often.first_ms == EPOCH_S * 1000
    assert (once.letters, once.newest.id) == (1, last)


def test_the_same_bug_has_the_same_digest(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        else:
            raise KeyError("deep")

    @dramatiq.actor(broker=broker, max_retries=0)
    def act(what: str) -> None:
        if what == "recursion":
            deeper(len(ran) * 3)
        if what == "another line":
            raise ValueError("at another line")
        raise ValueError(f"no {what}")

    ran: list[str] = []
    start_worker(broker)
    for what in ("x", "y", "recursion", "another line", "recursion"):
        ran.append(what)
        act.send(what)
        broker.join("default", timeout=5_000)
    letters = list(broker.dead_letters("default"))
    x, y, shallow, other, deep = (letter.digest for letter in letters)
    assert x == y
    assert shallow == deep
    assert len({x, shallow, other}) == 3
    assert all(len(letter.digest) == 10 for letter in letters)


def test_letters_of_an_older_release_have_a_digest(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    key = broker.keys.queue("default").dead
    for error in ("A: 1", "A: 2", "B: 1"):
        client.xadd(key, {"source": "queue:default:normal", "cause": "failed", "error": error})
    one, two, three = (letter.digest for letter in broker.dead_letters("default"))
    assert one == two != three


# Requeuing


def test_a_requeued_message_runs_with_attempt_1(
    make_broker: MakeBroker, start_worker: StartWorker, client: redis.Redis
) -> None:
    middleware = [make() for make in dramatiq.middleware.default_middleware]
    broker = make_broker(middleware=[*middleware, CurrentMessage()])
    works = threading.Event()
    ran: list[tuple[int, dict[str, Any]]] = []

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=0, max_backoff=0)
    def act(number: int) -> None:
        current = CurrentMessage.get_current_message()
        assert current is not None
        ran.append((current.attempt, {**current.options}))  # type: ignore[attr-defined]
        if not works.is_set():
            raise RuntimeError("not yet")

    start_worker(broker)
    sent = act.send_with_options(args=(7,), priority="low", tag="mine")
    (letter,) = wait_until(lambda: list(broker.dead_letters("default")))
    assert (letter.body() or {})["options"]["retries"] == 1
    assert letter.source == "queue:default:low"
    works.set()
    ran.clear()
    before = datetime.now(UTC).timestamp() * 1000
    tally = broker.requeue_dead_letters("default", DeadLetterFilter(ids=[letter.id]), by="me@here")
    assert tally == Counter(requeued=1)
    wait_until(lambda: ran)
    broker.join("default", timeout=5_000)
    assert ran == [(1, {"priority": "low", "tag": "mine"})]
    assert broker.count_dead_letters("default") == 0
    (record,) = audit(client, broker)
    assert (record["action"], record["writer"], record["letter"], record["entry"]) == (
        "requeue",
        "me@here",
        letter.dead_id,
        letter.entry_id,
    )
    assert abs(record["at"] - before) < 60_000
    assert sent.message_id


def test_a_requeued_message_goes_back_to_its_lane_whole(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    plain = message(lane="high")
    tried = message(lane="low", retries=3, traceback="T", requeue_timestamp=1)
    bury(client, broker, number=0, lane="high", data=plain)
    bury(client, broker, number=1, lane="low", data=tried)
    bury(client, broker, number=2, data=b"\xff junk")
    bury(client, broker, number=3, data=b'{"options": 7}')
    assert broker.requeue_dead_letters("default", ALL) == Counter(requeued=4)
    keys = broker.keys.queue("default")

    def lane(name: Lane) -> list[bytes]:
        entries: Any = client.xrange(keys.entries(name))
        return [fields[b"m"] for _, fields in entries]

    assert lane(Lane.HIGH) == [plain]
    assert lane(Lane.NORMAL) == [b"\xff junk", b'{"options": 7}']
    (low,) = lane(Lane.LOW)
    assert json.loads(low) == {**json.loads(tried), "options": {"priority": "low"}}
    assert broker.count_dead_letters("default") == 0
    assert len(audit(client, broker)) == 4


def test_requeue_takes_what_the_filter_means_and_tells_each(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    for n in range(120):
        bury(client, broker, number=n, cause=CAUSES[n % 2])
    told: list[tuple[str, str]] = []
    where = DeadLetterFilter(causes=["failed"])
    tally = broker.requeue_dead_letters(
        "default", where, on_outcome=lambda letter, outcome: told.append((letter, outcome))
    )
    assert tally == Counter(requeued=60)
    assert [number for number, _ in told] == [f"{EPOCH_S * 1000}-{n}" for n in range(0, 120, 2)]
    assert {letter.cause for letter in broker.dead_letters("default")} == {"undecodable"}
    assert len(stored_messages(client, broker)) == 60


def test_what_becomes_a_letter_meanwhile_is_left_alone(
    broker: RedisStreamsBroker, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.broker.dead_letter_reading.PAGE", 1)
    monkeypatch.setattr(admin, "BATCH", 1)
    for n in range(20):
        bury(client, broker, number=n)
    more = iter(range(1, 1000))

    def fails_again(_: str, outcome: str) -> None:
        assert outcome == "requeued"
        bury(client, broker, at_s=next(more))

    assert broker.requeue_dead_letters("default", ALL, on_outcome=fails_again)["requeued"] == 20
    assert broker.count_dead_letters("default") == 20


def test_unknown_ids_are_gone(broker: RedisStreamsBroker, client: redis.Redis) -> None:
    dead_id = bury(client, broker)
    where = DeadLetterFilter(ids=[dead_id, "7-7", dead_id, "log.x:0/7-7"])
    assert broker.requeue_dead_letters("default", where) == Counter(requeued=1, gone=2)
    assert broker.purge_dead_letters("default", where) == Counter(gone=3)


@pytest.mark.parametrize("what", ["requeue", "purge"])
def test_two_operators_at_once_do_it_once(
    make_broker: MakeBroker, client: redis.Redis, what: str
) -> None:
    brokers = [make_broker() for _ in range(4)]
    for n in range(300):
        bury(client, brokers[0], number=n)
    tallies: list[Counter[str]] = []
    barrier = threading.Barrier(4)

    def operate(broker: RedisStreamsBroker) -> None:
        barrier.wait()
        act = broker.requeue_dead_letters if what == "requeue" else broker.purge_dead_letters
        tallies.append(act("default", ALL))

    threads = [threading.Thread(target=operate, args=(one,)) for one in brokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(tallies, Counter())
    assert total["requeued" if what == "requeue" else "purged"] == 300
    assert len(stored_messages(client, brokers[0])) == (300 if what == "requeue" else 0)
    assert len(audit(client, brokers[0])) == 300
    assert brokers[0].count_dead_letters("default") == 0


@pytest.mark.parametrize(
    ("name", "outcome"), [("requeue_message", "requeued"), ("purge", "purged")]
)
def test_a_lost_reply_doubles_nothing(
    make_broker: MakeBroker, client: redis.Redis, proxy: CuttingProxy, name: str, outcome: str
) -> None:
    patient = Settings(redis={"max_retries": 20, "retry_delay": 0.01})
    broker = make_broker(proxy.url, settings=patient)
    for n in range(120):
        bury(client, broker, number=n)
    act = broker.purge_dead_letters if name == "purge" else broker.requeue_dead_letters
    act("default", DeadLetterFilter(ids=[f"{EPOCH_S * 1000}-0"]))  # the server has the script
    proxy.cut_reply(script(name).sha.encode(), times=4)
    tally = act("default", ALL)
    assert proxy.cuts == 4
    # Ours, although the replies that said so were lost.
    assert tally == Counter({outcome: 119})
    assert len(stored_messages(client, broker)) == (0 if name == "purge" else 120)
    assert len(audit(client, broker)) == 120


def test_requeuing_undoes_a_cancellation(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    sent = act.message(5)
    bury(client, broker, data=sent.encode())
    broker.cancel("default", sent.message_id)
    broker.requeue_dead_letters("default", ALL)
    start_worker(broker)
    wait_until(lambda: ran == [5])


@pytest.mark.parametrize("what", ["audit", "lane", "cancelled"])
def test_a_key_of_another_kind_refuses_all_and_changes_nothing(
    broker: RedisStreamsBroker, client: redis.Redis, what: str
) -> None:
    bury(client, broker)
    keys = broker.keys.queue("default")
    key = {
        "audit": keys.lane(Lane.HIGH).audit,
        "lane": keys.entries(Lane.NORMAL),
        "cancelled": keys.cancelled,
    }[what]
    client.set(key, "something else")
    with pytest.raises(WrongKeyType):
        broker.requeue_dead_letters("default", ALL)
    assert broker.count_dead_letters("default") == 1
    client.delete(key)
    assert broker.requeue_dead_letters("default", ALL) == Counter(requeued=1)
    assert len(stored_messages(client, broker)) == 1


# Purging and expiring


def test_purge_deletes_what_the_filter_means_and_records_each(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    old = [bury(client, broker, number=n) for n in range(3)]
    young = bury(client, broker, at_s=60)
    where = DeadLetterFilter(until=at(60))
    assert broker.purge_dead_letters("default", where, by="me@here") == Counter(purged=3)
    assert ids(broker.dead_letters("default")) == [young]
    records = audit(client, broker)
    assert [(one["action"], one["writer"], one["letter"]) for one in records] == [
        ("purge", "me@here", dead_id) for dead_id in old
    ]
    assert stored_messages(client, broker) == []


def test_who_does_it_is_the_user_of_the_process(
    broker: RedisStreamsBroker, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(client, broker)
    broker.purge_dead_letters("default", ALL)
    assert audit(client, broker)[0]["writer"] == admin.operator_name()
    assert "@" in admin.operator_name()

    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert admin.operator_name().split("@")[0].isdigit()


def test_letters_expire_by_the_servers_clock_oldest_first(
    broker: RedisStreamsBroker, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.requeue_dead_letters("default", ALL)
    client.hset(broker.keys.members.known, "default queue:default:normal", 1)
    client.hset(broker.keys.members.known, "other queue:other:low", 1)
    old = [bury(client, broker, number=n) for n in range(10)]
    others = [bury(client, broker, number=n, queue="other") for n in range(3)]
    seconds, _ = client.time()  # type: ignore[misc]
    young = bury(client, broker, at_s=seconds - EPOCH_S - 50)
    monkeypatch.setattr(admin, "EXPIRE_PAGE", 2)
    monkeypatch.setattr(admin, "EXPIRE_LETTERS", 6)

    def expire(ttl_s: int) -> int:
        def sweep(link: Link) -> int:
            return admin.expire_dead_letters(link, broker.keys, ttl_s * 1000, "host:1:a")

        return broker._links.call(sweep)

    assert expire(10**9) == 0
    assert expire(100) == 6  # by turns, and no more than it may
    assert ids(broker.dead_letters("default")) == [*old[4:], young]
    assert ids(broker.dead_letters("other")) == others[2:]
    assert expire(100) == 6
    assert expire(100) == 1
    assert expire(100) == 0
    assert ids(broker.dead_letters("default")) == [young]
    records = audit(client, broker)
    assert {one["action"] for one in records} == {"expire"}
    assert sum(one["letters"] for one in records) == 10
    assert records[0]["last"] == old[1]
    assert expire(40) == 1


def test_a_stream_that_cannot_expire_keeps_none_of_the_others(
    broker: RedisStreamsBroker, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.hset(broker.keys.members.known, "a queue:a:normal", 1)
    client.hset(broker.keys.members.known, "b queue:b:normal", 1)
    client.set(broker.keys.queue("a").dead, "something else")
    bury(client, broker, queue="b")

    def sweep(link: Link) -> int:
        return admin.expire_dead_letters(link, broker.keys, 1000, "me")

    assert broker._links.call(sweep) == 1
    assert "Dead letters of a do not expire: " in caplog.text
    assert "b: 1 dead letters were older than 1 s" in caplog.text


def test_operating_on_letters_is_known_to_no_other_queue(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    bury(client, broker)
    bury(client, broker, queue="other")
    broker.purge_dead_letters("default", ALL)
    assert broker.count_dead_letters("other") == 1


# What is known


def test_a_queue_is_known_once_it_was_read(
    broker: RedisStreamsBroker, make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    @dramatiq.actor(broker=broker, queue_name="mine", max_retries=0)
    def act() -> None:
        raise RuntimeError("no")

    elsewhere = make_broker()
    assert elsewhere.known_queues() == {}
    worker = start_worker(broker)
    act.send()
    wait_until(lambda: list(elsewhere.dead_letters("mine")))
    worker.stop()
    known = elsewhere.known_queues()
    assert list(known) == ["mine"]
    assert not known["mine"].is_subscription
    assert [source.name for source in known["mine"].sources] == [
        "queue:mine:high",
        "queue:mine:low",
        "queue:mine:normal",
    ]
    assert known["mine"].last_read_ms > EPOCH_S * 1000


def test_what_a_later_release_recorded_is_left_out(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    for field in ("a tape:a:0", "b queue:b:normal", "b queue:b:express", "c x"):
        client.hset(broker.keys.members.known, field, 7)
    known = broker.known_queues()
    assert {name: [one.name for one in queue.sources] for name, queue in known.items()} == {
        "b": ["queue:b:normal"]
    }


def test_the_process_that_looks_for_dead_ones_lets_letters_expire(
    make_broker: MakeBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    broker = make_broker(settings=Settings(event_bus={"dead_letter_ttl": 3600}))
    client.hset(broker.keys.members.known, "abandoned queue:abandoned:normal", 1)
    bury(client, broker, queue="abandoned")

    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    start_worker(broker)
    wait_until(lambda: broker.count_dead_letters("abandoned") == 0)
    entries: Any = client.xrange(broker.keys.queue("abandoned").lane(Lane.HIGH).audit)
    record = json.loads(entries[0][1][b"r"])
    assert record["writer"].count(":") == 2
