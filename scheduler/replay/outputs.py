"""What a replay has put out, in an order that does not depend on who was faster.

The output of an isolated replay is what its namespace's logs hold in the end: the events that were
replayed, and all that handlers emitted; and what dry runs would have emitted, under `dry:TYPE`. Its
canonical order is (type, key, event id), which is a function of the set of events alone: neither
the number of workers nor their timing enters. Emitted ids are derived from cause, subscription and
ordinal, so handlers that do the same emit the same ids. An event's canonical bytes are its JSON
with sorted names, without `ts_published`; the server's append times and entry ids are not in it.

The sort is external: runs of bounded size go to temporary files, and are merged.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, NamedTuple

from ...broker.connections import Link, LinkPool
from ...broker.keys import LANES, Keys
from ...broker.replay_names import dry_namespace, replay_namespace
from ...errors import EventDecodeError
from .digest import EMPTY, chained

__all__ = ["Output", "canonical", "output_digest", "sorted_outputs", "stored_outputs"]

#: Events of one sorted run.
RUN = 50_000
#: Entries of one read.
PAGE = 500


class Output(NamedTuple):
    """An event that was put out; compared by what the canonical order goes by."""

    type: str
    key: str
    event_id: str
    #: Its canonical JSON.
    text: str


def canonical(type_name: str, data: bytes | str, ignore: Sequence[str] = ()) -> Output:
    """An event's place in the order, and its bytes.

    Parameters:
      ignore: Names of more fields, at the top, to leave out.

    Raises:
      EventDecodeError: It is no JSON object with an id.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        key, event_id = str(fields.get("key", "")), str(fields["id"])
        for name in ("ts_published", *ignore):
            fields.pop(name, None)
    except (ValueError, KeyError, AttributeError) as error:
        raise EventDecodeError(
            f"An entry of the log of {type_name!r} is no event ({error!r}): {data!r:.80}"
        ) from None
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Output(type_name, key, event_id, text)


def stored_outputs(
    keys: Keys, replay_id: str, links: LinkPool, ignore: Sequence[str] = ()
) -> Iterator[Output]:
    """What an isolated replay has put out, in no particular order, page by page.

    Parameters:
      keys: The namespace that was replayed, not the replay's own.

    Raises:
      EventDecodeError: An entry is no event.
      BrokerError: The server cannot be reached or refuses.
    """
    own = replay_namespace(keys.namespace, replay_id)
    dry = dry_namespace(keys.namespace, replay_id)
    for namespace, prefix in ((own, ""), (dry, "dry:")):
        for type_name, part in links.call(lambda link: _logs(link, namespace)):  # noqa: B023
            for data in _entries(links, Keys(namespace).log(type_name, part).entries):
                yield canonical(f"{prefix}{type_name}", data, ignore)


def _logs(link: Link, namespace: str) -> list[tuple[str, str]]:
    """Types and parts of a namespace's logs, from their stored layouts."""
    found: list[tuple[str, str]] = []
    prefix = f"{namespace}:layout:"
    cursor: Any = 0
    while True:
        cursor, page = link.send("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
        for key in page:
            name = key.decode().removeprefix(prefix)
            kind, _, number = link.send("GET", key).decode().partition(":")
            parts = [lane.value for lane in LANES] if kind == "laned" else range(int(number))
            found += [(name, str(part)) for part in parts]
        if int(cursor) == 0:
            return sorted(set(found))


def _entries(links: LinkPool, key: str) -> Iterator[bytes]:
    first = "-"
    while True:
        page = links.call(lambda link: link.send("XRANGE", key, first, "+", "COUNT", PAGE))  # noqa: B023
        for _, flat in page:
            yield dict(zip(flat[::2], flat[1::2], strict=True)).get(b"d", b"")
        if len(page) < PAGE:
            return
        first = f"({page[-1][0].decode()}"


@contextmanager
def sorted_outputs(outputs: Iterable[Output], run: int = RUN) -> Iterator[Iterator[Output]]:
    """The same in the canonical order; holds one run at a time in memory.

    Parameters:
      run: Events of one run.
    """
    with ExitStack() as stack:
        files: list[IO[str]] = []
        chunk: list[Output] = []
        for output in outputs:
            chunk.append(output)
            if len(chunk) >= run:
                files.append(_spilled(stack, chunk))
                chunk = []
        chunk.sort()
        yield heapq.merge(*map(_read_back, files), chunk)


def _spilled(stack: ExitStack, chunk: list[Output]) -> IO[str]:
    file = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115
    for output in sorted(chunk):
        file.write(json.dumps(output) + "\n")
    file.seek(0)
    return file


def _read_back(file: IO[str]) -> Iterator[Output]:
    for line in file:
        yield Output(*json.loads(line))


def output_digest(outputs: Iterable[Output]) -> tuple[str, int]:
    """Digest, hex, and number of events, of an output in the canonical order."""
    digest, count = EMPTY, 0
    for output in outputs:
        record = "\0".join((output.type, output.key, output.text))
        digest = chained(digest, record.encode("utf-8", "surrogatepass"))
        count += 1
    return digest.hex(), count
