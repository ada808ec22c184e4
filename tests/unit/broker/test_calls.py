"""Scripts as values: includes, names that the server gives them, and their calls."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest
import redis

from streamatiq.broker.calls import Call, script

FOLDER = Path(str(files("streamatiq.broker") / "lua"))
NAMES = sorted(one.stem for one in FOLDER.glob("[!_]*.lua"))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_whole_and_named_by_its_text(name: str) -> None:
    found = script(name)
    assert found.sha == hashlib.sha1(found.text, usedforsecurity=False).hexdigest()
    text = found.text.decode()
    assert "--@include" not in text
    for included in re.findall(r"^--@include (\S+)$", (FOLDER / f"{name}.lua").read_text(), re.M):
        assert text.count((FOLDER / included).read_text()) == 1
    assert script(name) is found


@pytest.mark.parametrize("name", NAMES)
def test_a_script_declares_its_flags_and_says_what_it_takes_and_returns(name: str) -> None:
    text = (FOLDER / f"{name}.lua").read_text()
    assert re.match(r"#!lua(?: flags=[a-z,-]+)?\n", text)
    for word in ("-- KEYS", "-- Returns"):
        assert word in text
    # No key is built inside, none is found by pattern: clusters and access rules need that.
    assert not re.search(r"call\('(?:KEYS|SCAN|EVAL)'", text)


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_accepted_by_a_server(name: str, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        assert client.script_load(script(name).text.decode()) in (
            script(name).sha,
            script(name).sha.encode(),
        )


def test_only_what_stores_something_new_stops_at_maxmemory() -> None:
    refused = {name for name in NAMES if b"allow-oom" not in script(name).text.splitlines()[0]}
    writing = {name for name in refused if b"no-writes" not in script(name).text.splitlines()[0]}
    assert writing == {
        "publish",
        "enqueue",
        "requeue_event",
        "requeue_message",
        "checkpoint_store",
    }


def test_a_call_by_name_and_by_text_is_the_same_call() -> None:
    call = Call(script("forget"), ("a", "b", "c"), ("x", 1), int)
    sha, text = call.evalsha(), call.eval()
    assert sha[:3] == ("EVALSHA", script("forget").sha, 3)
    assert text[:3] == ("EVAL", script("forget").text, 3)
    assert sha[3:] == text[3:] == ("a", "b", "c", "x", 1)


def test_a_missing_script_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        script("no_such_script")
