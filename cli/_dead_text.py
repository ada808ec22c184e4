"""What `streamatiq dead` prints: for somebody who was woken up by it."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from ..broker import DeadLetterEntry
from ..broker.dead_letter_summary import Bug, DeadLetterSummary, summarise
from ..broker.wording import counted

__all__ = [
    "as_json",
    "bug_lines",
    "letter_lines",
    "one_letter",
    "overview_json",
    "overview_lines",
    "plain",
    "said",
    "when",
]

#: Narrowest column of errors.
MIN_ERROR = 40
#: The noun for more than one.
QUEUES = "queues and subscriptions"


def when(ms: int | None) -> str:
    """A time, to the second, UTC."""
    return "" if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def plain(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def said(letter: DeadLetterEntry) -> str:
    """What failed and why, on one line."""
    return f"{_subject(letter)}: {plain(letter.error) or letter.cause}"


def _subject(letter: DeadLetterEntry) -> str:
    return plain(letter.subject) or "(undecodable)"


def as_json(letter: DeadLetterEntry) -> str:
    """All of a letter; `data` as text where it is text, else as `data_base64`."""
    fields = {"id": letter.id, **asdict(letter), "died_ms": letter.died_ms}
    fields["subject"] = letter.subject
    del fields["data"]
    try:
        fields["data"] = letter.data.decode()
    except UnicodeDecodeError:
        fields["data_base64"] = base64.b64encode(letter.data).decode()
    return json.dumps(fields)


def overview_json(summary: DeadLetterSummary) -> str:
    """One queue."""
    fields = {
        "queue": summary.queue,
        "letters": summary.letters,
        "looked_at": summary.looked_at,
        "causes": summary.causes,
        "oldest_ms": summary.oldest_ms,
        "newest_ms": summary.newest_ms,
        "bugs": [_bug_fields(bug) for bug in summary.bugs],
    }
    return json.dumps(fields)


def overview_lines(summaries: Sequence[DeadLetterSummary], known: int) -> Iterator[str]:
    """A table of the queues that have letters."""
    if not summaries:
        yield f"No dead letters in {counted(known, 'queue or subscription', QUEUES)}."
        return
    rows = [("QUEUE", "LETTERS", "CAUSES", "OLDEST (UTC)", "NEWEST (UTC)")]
    for one in summaries:
        causes = ", ".join(f"{cause} {letters:,}" for cause, letters in one.causes.items())
        if one.looked_at < one.letters:
            causes += f" (of the newest {one.looked_at:,})"
        rows.append(
            (one.queue, f"{one.letters:,}", causes, when(one.oldest_ms), when(one.newest_ms))
        )
    yield from _table(rows, right=(1,))
    worst = max(summaries, key=lambda one: one.letters)
    yield ""
    yield f"Most frequent in {worst.queue}:"
    for bug in worst.bugs[:3]:
        yield f"  {bug.letters:,} x  {bug.digest}  {said(bug.newest)}"[: _width()]
    yield ""
    yield f"Next: streamatiq dead list {shlex.quote(worst.queue)}"


def letter_lines(
    queue: str, letters: Sequence[DeadLetterEntry], *, more: bool, newest: bool, chosen: bool
) -> Iterator[str]:
    """A table of letters, and what to type next. `chosen`: of those that were asked for."""
    if not letters:
        yield _none(queue, chosen)
        return
    rows = [("ID", "GIVEN UP (UTC)", "CAUSE", "RUNS", "DIGEST", "WHAT FAILED")]
    rows += [
        (one.id, when(one.died_ms), one.cause, str(one.attempts), one.digest, said(one))
        for one in letters
    ]
    yield from _table(rows, right=(3,))
    name, last = shlex.quote(queue), letters[-1]
    yield ""
    if more:
        way = " --newest" if newest else ""
        yield f"More:  streamatiq dead list {name}{way} --after {last.id}   and the same conditions"
    yield f"Look:  streamatiq dead show {name} {last.id}"
    yield f"Rerun: streamatiq dead requeue {name} {last.id}   or --digest {last.digest}   or --all"


def _none(queue: str, chosen: bool) -> str:
    return f"No {'such ' if chosen else ''}dead letters in {queue}."


def bug_lines(
    queue: str, newest_first: Iterable[DeadLetterEntry], limit: int, *, as_json: bool, chosen: bool
) -> Iterator[str]:
    """Letters by digest."""
    bugs = summarise(queue, 0, None, newest_first).bugs[:limit]
    if as_json:
        for bug in bugs:
            yield json.dumps(_bug_fields(bug))
        return
    if not bugs:
        yield _none(queue, chosen)
        return
    rows = [("DIGEST", "LETTERS", "CAUSE", "FIRST (UTC)", "LAST (UTC)", "WHAT FAILED")]
    rows += [
        (
            bug.digest,
            f"{bug.letters:,}",
            bug.newest.cause,
            when(bug.first_ms),
            when(bug.newest.died_ms),
            said(bug.newest),
        )
        for bug in bugs
    ]
    yield from _table(rows, right=(1,))
    name, first = shlex.quote(queue), bugs[0]
    yield ""
    yield f"Look:  streamatiq dead show {name} {first.newest.id}"
    yield f"Rerun: streamatiq dead requeue {name} --digest {first.digest}"


def one_letter(letter: DeadLetterEntry) -> str:
    """Everything, for reading."""
    queue = shlex.quote(letter.queue)
    what = "event" if letter.is_event else "message"
    lines = [
        f"{letter.queue}  {letter.id}",
        "",
        f"cause     {letter.cause}",
        f"error     {plain(letter.error) or '-'}",
        f"what      {_subject(letter)}",
        f"given up  {when(letter.died_ms)} UTC",
        f"runs      {letter.attempts}, the last in {plain(letter.consumer) or '-'}",
        f"from      {plain(letter.source)}, entry {plain(letter.entry_id)}",
        f"digest    {letter.digest}",
        "",
        f"{what}:",
        *_indented(_body(letter)),
    ]
    if letter.traceback:
        lines += ["", "traceback:", *_indented(letter.traceback.rstrip())]
    lines += [
        "",
        f"Rerun:  streamatiq dead requeue {queue} {letter.id}",
        f"Alike:  streamatiq dead list {queue} --digest {letter.digest}",
        f"Delete: streamatiq dead purge {queue} {letter.id}",
    ]
    return "\n".join(lines)


def _body(letter: DeadLetterEntry) -> str:
    body = letter.body()
    if body is not None:
        # Not ASCII only: it is for reading. What a terminal would obey is escaped by `_indented`.
        return json.dumps(body, indent=2, ensure_ascii=False, default=repr)
    return repr(letter.data)


def _indented(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield "  " + "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in line
        )


def _bug_fields(bug: Bug) -> dict[str, object]:
    return {
        "digest": bug.digest,
        "letters": bug.letters,
        "cause": bug.newest.cause,
        "subject": bug.newest.subject,
        "error": bug.newest.error,
        "first_ms": bug.first_ms,
        "last_ms": bug.newest.died_ms,
        "newest": bug.newest.id,
    }


def _width() -> int:
    return max(80, shutil.get_terminal_size((160, 24)).columns)


def _table(rows: Sequence[tuple[str, ...]], *, right: Sequence[int]) -> Iterator[str]:
    """Columns that fit; the last one is cut to what is left of the terminal's width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    room = max(MIN_ERROR, _width() - sum(widths[:-1]) - 2 * (len(widths) - 1))
    for row in rows:
        last = row[-1] if len(row[-1]) <= room else row[-1][: room - 3] + "..."
        cells = [
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
        ]
        yield "  ".join([*cells, last]).rstrip()
