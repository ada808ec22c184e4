"""What redis-py raises, as our typed errors: fed through redis-py's own parser of error replies."""

from __future__ import annotations

import pytest
import redis.exceptions as raised
from redis._parsers.base import BaseParser

from streamatiq.broker.faults import fault, translated
from streamatiq.errors import (
    AuthenticationFailed,
    BrokerConnectionError,
    BrokerError,
    CommandFailed,
    OutOfMemory,
    PermissionDenied,
    ReadOnlyServer,
    WrongKeyType,
)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("NOAUTH Authentication required.", AuthenticationFailed),
        ("WRONGPASS invalid username-password pair or user is disabled.", AuthenticationFailed),
        ("ERR invalid password", AuthenticationFailed),
        ("NOPERM this user has no permissions to run the 'xadd' command", PermissionDenied),
        ("ERR ACL failure in script: User x has no permissions to run 'xadd'", PermissionDenied),
        ("OOM command not allowed when used memory > 'maxmemory'.", OutOfMemory),
        ("OOM allow-oom flag is not set on the script, can not run it", OutOfMemory),
        ("READONLY You can't write against a read only replica.", ReadOnlyServer),
        ("LOADING Redis is loading the dataset in memory", BrokerConnectionError),
        ("BUSY Redis is busy running a script.", BrokerConnectionError),
        ("MASTERDOWN Link with MASTER is down", BrokerConnectionError),
        ("CLUSTERDOWN The cluster is down", BrokerConnectionError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", BrokerConnectionError),
        ("NOREPLICAS Not enough good replicas to write.", BrokerConnectionError),
        ("MISCONF Redis is configured to save RDB snapshots", BrokerConnectionError),
        ("ERR max number of clients reached", BrokerConnectionError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongKeyType),
        ("ERR syntax error", CommandFailed),
    ],
)
def test_each_refusal_has_its_kind(reply: str, kind: type[BrokerError]) -> None:
    error = BaseParser.parse_error(reply)
    found = fault(error, "redis://h:1", ("XADD", "some:key", b"a secret value"))
    assert type(found) is kind
    text = str(found)
    assert "redis://h:1" in text
    assert "a secret value" not in text


@pytest.mark.parametrize("error", [raised.ConnectionError("gone."), raised.TimeoutError("slow")])
def test_a_lost_connection_says_where_and_what_to_do(error: raised.RedisError) -> None:
    found = fault(error, "redis://h:1")
    assert type(found) is BrokerConnectionError
    assert "No connection to redis://h:1" in str(found)
    assert "Is the server running and redis.url right?" in str(found)


def test_an_unknown_script_passes_and_a_cause_is_kept() -> None:
    with pytest.raises(raised.NoScriptError), translated("h"):
        raise raised.NoScriptError("NOSCRIPT")
    refused = raised.ResponseError("ERR no")
    with pytest.raises(CommandFailed) as caught, translated("h", ("GET", "k")):
        raise refused
    assert caught.value.__cause__ is refused
    with pytest.raises(KeyError), translated("h"):
        raise KeyError("not ours")


def test_what_ends_with_a_question_gets_no_stop() -> None:
    text = (
        "AUTH called without any password configured. Are you sure your configuration is correct?"
    )
    found = str(fault(raised.AuthenticationError(text), "redis://h:1"))
    assert "correct? Check user and password in redis.url." in found
