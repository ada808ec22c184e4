"""Settings: defaults, precedence, and a place for every wrong value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq._config_layer import by_line, leaves, redact, shown
from streamatiq._config_variables import variable
from streamatiq.errors import ConfigurationError, InvalidSettings
from streamatiq.settings import RedisSettings, Settings

DEFAULT_FILE = Path(__file__).resolve().parents[2] / "config/event_engine.yaml"
SECRET = "tiger!lily"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, and no variables of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("STREAMATIQ_"):
            monkeypatch.delenv(name)


def problems(path: str | None = None) -> tuple[str, ...]:
    """What `Settings.load` finds wrong."""
    with pytest.raises(InvalidSettings) as caught:
        Settings.load(path)
    return caught.value.problems


def problems_in(text: str | bytes) -> tuple[str, ...]:
    """What is wrong in a file `c.yaml` of this content."""
    Path("c.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return problems("c.yaml")


# Defaults


def test_the_defaults_are_those_of_the_table() -> None:
    settings = Settings.load()
    assert settings == Settings()
    assert settings.redis.url == "redis://localhost:6379"
    assert (settings.redis.max_retries, settings.redis.retry_delay) == (3, 1.0)
    assert settings.redis.stream_max_length == 100_000
    bus = settings.event_bus
    assert (bus.max_queue_size, bus.idempotency_window, bus.handler_timeout) == (10_000, 300, 5)
    assert (bus.when_full, bus.block_timeout, bus.shed) == ("reject", 5, ())
    assert (bus.circuit_breaker.failure_threshold, bus.circuit_breaker.reset_time) == (5, 60)
    assert settings.processor.batch_size == 100
    assert settings.processor.checkpoint_interval == 60
    assert settings.namespace == "streamatiq"
    assert settings.workers.handlers == ()
    assert settings.workers.tune is True
    assert settings.audit.level == "counts"
    own = settings.scheduler
    assert (own.host, own.port, own.threads) == ("127.0.0.1", 9193, 10)
    assert (own.lease, own.history, own.stop_timeout) == (3, 200, 8)


def test_the_committed_file_holds_every_key_at_its_default() -> None:
    settings, origins = Settings.load_with_origins(DEFAULT_FILE)
    assert settings == Settings()
    assert [
        key for key, origin in origins.items() if not origin.startswith(str(DEFAULT_FILE))
    ] == []


def test_every_key_of_the_committed_file_has_a_comment() -> None:
    lines = DEFAULT_FILE.read_text().splitlines()
    keys = [line for line in lines if ":" in line and not line.startswith("#")]
    bare = [line for line in keys if "#" not in line]
    assert [line.strip() for line in bare if not line.endswith(":")] == []


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.namespace = "other"
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.redis.url = "redis://other"


# Where values come from


def test_an_argument_is_checked_like_any_source() -> None:
    assert Settings(redis={"url": "redis://h"}).redis.url == "redis://h"
    assert Settings(redis=RedisSettings(url="redis://h")).redis.url == "redis://h"
    with pytest.raises(InvalidSettings, match=r"^Settings: redis\.max_retries must be greater"):
        Settings(redis={"max_retries": -1})


def test_an_object_made_directly_reads_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", "x")
    assert Settings().namespace == "streamatiq"


def test_environment_then_dotenv_then_file_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.yaml").write_text(
        "namespace: file\nprocessor: {batch_size: 1}\nredis:\n  max_retries: 1\n"
    )
    Path(".env").write_text(
        "OTHER=1\nSTREAMATIQ_NAMESPACE=dotenv\n\nSTREAMATIQ_PROCESSOR__BATCH_SIZE=2\n"
    )
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", "environment")
    settings, origins = Settings.load_with_origins("c.yaml")
    assert settings.namespace == "environment"
    assert settings.processor.batch_size == 2
    assert settings.redis.max_retries == 1
    assert settings.processor.checkpoint_interval == 60
    assert origins["namespace"] == "environment variable STREAMATIQ_NAMESPACE"
    assert origins["processor.batch_size"] == ".env:4: variable STREAMATIQ_PROCESSOR__BATCH_SIZE"
    assert origins["redis.max_retries"] == "c.yaml:4:16"
    assert origins["processor.checkpoint_interval"] == "default"


def test_the_file_is_the_argument_or_the_named_or_the_usual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("config").mkdir()
    Path("config/event_engine.yaml").write_text("namespace: usual\n")
    assert Settings.load().namespace == "usual"
    Path("d.yaml").write_text("namespace: dotenv\n")
    Path(".env").write_text("STREAMATIQ_CONFIG=d.yaml\n")
    assert Settings.load().namespace == "dotenv"
    Path("n.yaml").write_text("namespace: named\n")
    monkeypatch.setenv("STREAMATIQ_CONFIG", "n.yaml")
    assert Settings.load().namespace == "named"
    Path("a.yaml").write_text("namespace: argument\n")
    assert Settings.load(Path("a.yaml")).namespace == "argument"


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems("a.yaml") == ("a.yaml: cannot be read: No such file or directory",)
    monkeypatch.setenv("STREAMATIQ_CONFIG", "n.yaml")
    assert problems() == ("STREAMATIQ_CONFIG: no such file: 'n.yaml'",)


def test_a_hidden_value_must_be_right_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMATIQ_PROCESSOR__BATCH_SIZE", "5")
    assert problems_in("processor: {batch_size: 0}") == (
        "c.yaml:1:25: processor.batch_size must be greater than or equal to 1, got 0",
    )


def test_audit_levels_of_all_sources_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.yaml").write_text("audit:\n  level: off\n  overrides: {ORDER: full, FILL: counts}\n")
    monkeypatch.setenv("STREAMATIQ_AUDIT__OVERRIDES", '{"FILL": "full"}')
    audit = Settings.load("c.yaml").audit
    assert [audit.level_of(name) for name in ("ORDER", "FILL", "SIGNAL")] == ["full", "full", "off"]


@pytest.mark.parametrize("text", ["a.b, c", '["a.b", "c"]', ' [ "a.b","c"]', "a.b,,c,"])
def test_a_list_in_a_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMATIQ_WORKERS__HANDLERS", text)
    assert Settings.load().workers.handlers == ("a.b", "c")


@given(key=st.sampled_from(sorted(leaves(Settings))))
def test_every_key_has_a_variable_of_its_own(key: tuple[str, ...]) -> None:
    names = [variable(other) for other in leaves(Settings)]
    assert names.count(variable(key)) == 1
    assert variable(key).removeprefix("STREAMATIQ_").lower().split("__") == list(key)


# Wrong files


def test_all_problems_of_all_sources_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("STREAMATIQ_AUDIT__LEVEL=loud\n")
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", "a b")
    found = problems_in("redis:\n  ulr: x\n  max_retries: 1\n  max_retries: many\nbatch_size: 5\n")
    assert found == (
        "c.yaml:2:3: unknown key 'redis.ulr'; did you mean 'redis.url'?",
        "c.yaml:4:3: duplicate key 'redis.max_retries', first at c.yaml:3:3",
        "c.yaml:5:1: unknown key 'batch_size'; did you mean 'processor.batch_size'?",
        ".env:1: variable STREAMATIQ_AUDIT__LEVEL: audit.level must be 'full', 'counts' or 'off', "
        "got 'loud'",
        "environment variable STREAMATIQ_NAMESPACE: namespace must match pattern "
        "'^[A-Za-z0-9_.-]{1,64}$', got 'a b'",
    )
    with pytest.raises(ConfigurationError) as caught:
        Settings.load("c.yaml")
    assert str(caught.value) == "5 settings are wrong:" + "".join(f"\n  {line}" for line in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis: 5", "c.yaml:1:8: redis must be a section with keys of its own, got 5"),
        ("redis: [1]", "c.yaml:1:8: redis must be a section with keys of its own, got [1]"),
        ("- 1", "c.yaml:1:1: must be a mapping of sections"),
        ("words", "c.yaml:1:1: must be a mapping of sections"),
        ("zzz: 1", "c.yaml:1:1: unknown key 'zzz'; known here: namespace, redis, event_bus, "),
        ("5: 1", "c.yaml:1:1: unknown key '5'; known here: namespace"),
        ("? [a]\n: 1", "c.yaml:1:3: a key must be plain text"),
        ("namespace: !x y", "c.yaml:1:12: the tag '!x' is not supported"),
        ("namespace: !!int y", "c.yaml:1:12: the text does not fit the tag"),
        ("redis: {url: [", "c.yaml:1:15: expected the node content, but found '<stream end>'"),
        ("a: &x 1\nb: *x", "c.yaml:2:4: aliases are not supported"),
        ("a: 1\n---\nb: 2", "c.yaml:2:1: but found another document"),
        ("namespace: '\x01'", "c.yaml: character 12 is not allowed in YAML"),
        (b"namespace: \xff", "c.yaml: is not UTF-8 text: byte 11 is not valid"),
        ("a: " + "[" * 1_000, "c.yaml: is nested too deeply"),
        ("workers: {handlers: a}", "c.yaml:1:21: workers.handlers must be a valid list, got 'a'"),
        ("workers:\n  handlers: [a, 5]", "c.yaml:2:17: workers.handlers.1 must be a valid string"),
        ("workers: {handlers: [a-b]}", "c.yaml:1:22: workers.handlers.0 must be the dotted name"),
        ("workers: {handlers: [.a]}", "c.yaml:1:22: workers.handlers.0 must be the dotted name"),
        (
            "audit: {overrides: {'': full}}",
            "c.yaml:1:25: audit.overrides. must have at least 1 character",
        ),
        (
            "event_bus: {shed: [market_data, order]}",
            "c.yaml:1:33: event_bus.shed.1 must not name orders or fills, which are never thrown "
            "away, got 'order'",
        ),
        ("event_bus: {shed: [fill]}", "c.yaml:1:20: event_bus.shed.0 must not name orders"),
        ("audit: {overrides: {a: 1}}", "c.yaml:1:24: audit.overrides.a must be 'full', "),
        ("namespace:", "c.yaml:1:11: namespace must be a valid string, got None"),
        ("namespace: ''", "c.yaml:1:12: namespace must match pattern"),
        ('namespace: "a\\n"', "c.yaml:1:12: namespace must match pattern"),
        (f"namespace: {'x' * 65}", "c.yaml:1:12: namespace must match pattern"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_column(text: str | bytes, expected: str) -> None:
    (problem,) = [one for one in problems_in(text) if one.startswith(expected)]
    assert "\n" not in problem


def test_a_directory_is_not_a_file() -> None:
    Path("d").mkdir()
    assert problems("d") == ("d: cannot be read: Is a directory",)


@pytest.mark.parametrize("text", ["", "# nothing\n", "redis:\nevent_bus: ~\n", "{}"])
def test_an_empty_file_or_section_sets_nothing(text: str) -> None:
    Path("c.yaml").write_text(text)
    assert Settings.load("c.yaml") == Settings()


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("redis.max_retries", ["0", "1000", '"7"'], ["-1", "1001", "5.0", '"5.0"', "true", "1e2"]),
        ("redis.retry_delay", ["0.5", "1", '"5.0"', "1e3"], ["0", "-1", ".nan", ".inf", "true"]),
        ("redis.stream_max_length", ["1"], ["0", "9999999999", "99999999999999999999"]),
        ("event_bus.max_queue_size", ["0", "1"], ["-1", "1_000", "null"]),
        ("event_bus.when_full", ["reject", "block"], ["shed", "null", "true"]),
        ("event_bus.block_timeout", ["0.001"], ["0", "soon"]),
        ("event_bus.shed", ["[]", "[market_data, my.type]"], ["market_data", "null"]),
        ("event_bus.idempotency_window", ["300", "2592000"], ["0", "2592001", "1:30"]),
        ("event_bus.handler_timeout", ["0.001"], ["0", "[]", "soon"]),
        ("processor.batch_size", ["1", "10000"], ["0", "10001"]),
        ("processor.checkpoint_interval", ["1", "null"], ["0", "0.9", "soon"]),
        ("audit.level", ["full", "counts", "off"], ["on", "false", "FULL"]),
        ("redis.url", ["embedded://x"], ["5", "true"]),
    ],
)
def test_ranges_and_types(key: str, good: list[str], bad: list[str]) -> None:
    section, name = key.split(".")
    for text in good:
        Path("c.yaml").write_text(f"{section}:\n  {name}: {text}\n")
        Settings.load("c.yaml")
    for text in bad:
        (problem,) = problems_in(f"{section}:\n  {name}: {text}\n")
        assert problem.startswith(f"c.yaml:2:{len(name) + 5}: {key} ")


# Wrong variables


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("STREAMATIQ_REDIS__ULR", "x", "sets nothing; did you mean STREAMATIQ_REDIS__URL?"),
        ("STREAMATIQ_CONFGI", "x", "sets nothing; did you mean STREAMATIQ_CONFIG?"),
        ("STREAMATIQ_", "x", "sets nothing; "),
        ("STREAMATIQ_QQQQQQQQQQQQQQQQQQQQQ", "x", "`streamatiq config show` lists all settings"),
        ("streamatiq_namespace", "x", "is not read; write it in capitals: STREAMATIQ_NAMESPACE"),
        ("STREAMATIQ_REDIS", "{}", "is a section, not a value; set its keys one by one"),
        ("STREAMATIQ_WORKERS__HANDLERS", "[", "must be a JSON list, or words with commas between"),
        ("STREAMATIQ_WORKERS__HANDLERS", "[" * 99999, "must be a JSON list, or words"),
        ("STREAMATIQ_AUDIT__OVERRIDES", "full", "must be a JSON object"),
        ("STREAMATIQ_PROCESSOR__BATCH_SIZE", "1.0", "must be a whole number, got '1.0'"),
        ("STREAMATIQ_REDIS__URL", "", "redis.url must start with redis://"),
    ],
)
def test_a_wrong_variable_is_named(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    (problem,) = problems()
    assert problem.startswith(f"environment variable {name}: ")
    assert expected in problem
    monkeypatch.delenv(name)
    if value:
        Path(".env").write_text(f"\n# comment\nOTHER=1\n\nexport {name}={value}\n")
        (problem,) = problems()
        assert problem.startswith(f".env:5: variable {name}: ")
        assert expected in problem


def test_variables_of_others_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMATIQ_SERVER_BINARY", "/x")
    monkeypatch.setenv("STREAMATIQX", "x")
    Path(".env").write_text("FOO\n'BAR\nBAZ=1\n")
    assert Settings.load() == Settings()


@pytest.mark.parametrize("line", ["STREAMATIQ_NAMESPACE", "'STREAMATIQ_NAMESPACE=x"])
def test_a_broken_line_of_ours_in_dotenv_is_named(
    line: str, caplog: pytest.LogCaptureFixture
) -> None:
    Path(".env").write_text(f"A=1\n\n{line}\nB=2\n")
    assert problems() == (".env:3: is not of the form NAME=value",)
    assert caplog.records == []


def test_dotenv_may_refer_to_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "me")
    Path(".env").write_text('STREAMATIQ_NAMESPACE="${WHO}.x"\n')
    assert Settings.load().namespace == "me.x"


def test_an_unreadable_dotenv_is_named() -> None:
    Path(".env").write_bytes(b"A=\xff\n")
    assert problems() == (".env: is not UTF-8 text: byte 2 is not valid",)
    Path(".env").unlink()
    Path(".env").mkdir()
    assert problems() == (".env: cannot be read: Is a directory",)


# URLs and passwords


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:p%40ss@host:6380/3",
        "rediss://host/?socket_timeout=3",
        "redis://[::1]:6379",
        "unix:///run/redis.sock",
        "unix://user:pw@/run/redis.sock?db=1",
        "embedded://data/my server",
        "embedded:///var/lib/streamatiq",
    ],
)
def test_good_urls(url: str) -> None:
    assert Settings(redis={"url": url}).redis.url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6379", "must start with redis://, rediss://, unix:// or embedded://"),
        ("http://host", "must start with redis://"),
        ("REDIS:/host", "must start with redis://"),
        ("redis://", "must name a host and a port"),
        ("redis://:6379", "must name a host and a port"),
        ("redis://host:0", "must name a host and a port"),
        ("redis://host:66666", "must have a port from 1 to 65535"),
        ("redis://host:port", "must have a port from 1 to 65535"),
        ("redis://host/queue", "must have a database number or nothing after the host"),
        ("redis://ho st", "must not hold blanks"),
        ("redis://[::1", "must be a URL; write the signs"),
        ("unix://", "must name a socket"),
        ("unix:///", "must name a socket"),
        ("embedded://", "must name a directory"),
    ],
)
def test_bad_urls(url: str, reason: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings(redis={"url": url})
    assert str(caught.value).startswith(f"Settings: redis.url {reason}")


@pytest.mark.parametrize(
    "value",
    [
        f"http://user:{SECRET}@host",
        f"redis//user:{SECRET}@host",
        f"redis://:{SECRET}@ho st",
        f"redis://:x@y/{SECRET} z@host:port",
        f"redis://:{SECRET}",
        f"redis://host:{SECRET}/0",
        f"redis://ho st?password={SECRET}",
        f"user:{SECRET}@host",
        ["redis://x", f"redis://:{SECRET}@h"],
        {"redis://h": f"redis://:{SECRET}@h"},
        f"redis://:{'x' * 100}{SECRET}@ho st",
    ],
)
def test_no_message_shows_a_password(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in ({"redis": {"url": value}}, {"redis": value}, {"namespace": value}):
        with pytest.raises(InvalidSettings) as caught:
            Settings(**settings)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(pydantic.ValidationError) as refused:
        RedisSettings(url=value)
    assert SECRET not in str(refused.value)
    if isinstance(value, str):
        assert all(SECRET not in line for line in problems_in(f"{value}: 1\n'{value}': 2\n"))
        monkeypatch.setenv("STREAMATIQ_REDIS__URL", value)
        assert all(SECRET not in line for line in problems())


def test_no_repr_shows_a_password() -> None:
    settings = Settings(redis={"url": f"redis://user:{SECRET}@host:6379/0"})
    for text in (repr(settings), str(settings), repr(settings.redis), str(settings.redis)):
        assert SECRET not in text
        assert "redis://***@host:6379/0" in text


@given(
    user=st.text(st.characters(exclude_characters="@")),
    host=st.from_regex(r"[a-z]+(:[0-9]{1,5})?(/[0-9])?", fullmatch=True),
    password=st.text(min_size=1).map(lambda text: f"<{text}>"),
)
def test_redact_hides_whatever_stands_before_the_host(user: str, host: str, password: str) -> None:
    assert redact(f"redis://{user}:{password}@{host}") == f"redis://***@{host}"


@pytest.mark.parametrize("text", ["redis://h:1/0", "redis://[::1]:6379", "plain", "10:30 text", ""])
def test_redact_leaves_harmless_text_alone(text: str) -> None:
    assert redact(text) == text


def test_a_shown_value_is_shortened() -> None:
    assert shown("x" * 500) == "'" + "x" * 76 + "..."
    assert shown(5) == "5"


def test_a_problem_without_a_line_sorts_first() -> None:
    assert sorted(["f:3:1: a: 1", "f:2:9: b", "f: c", ".env:2: d"], key=by_line) == [
        "f: c",
        ".env:2: d",
        "f:2:9: b",
        "f:3:1: a: 1",
    ]


def test_dead_letters_are_kept_for_ever_or_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().event_bus.dead_letter_ttl is None
    name = "STREAMATIQ_EVENT_BUS__DEAD_LETTER_TTL"
    monkeypatch.setenv(name, "7776000")
    assert Settings.load().event_bus.dead_letter_ttl == 90 * 86_400
    monkeypatch.setenv(name, "null")
    Path("c.yaml").write_text("event_bus: {dead_letter_ttl: 60}\n")
    assert Settings.load("c.yaml").event_bus.dead_letter_ttl is None
    monkeypatch.delenv(name)
    assert Settings.load("c.yaml").event_bus.dead_letter_ttl == 60
    for wrong in ("0", "true", "nan", "1e12", "''"):
        assert problems_in(f"event_bus: {{dead_letter_ttl: {wrong}}}\n")[0].startswith(
            "c.yaml:1:30: event_bus.dead_letter_ttl must be"
        )
