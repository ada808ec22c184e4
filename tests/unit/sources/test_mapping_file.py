"""The mapping file: everything that is wrong is named with file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamatiq.errors import IngestError
from streamatiq.sources import read_mapping
from streamatiq.sources.mapping import Cell, KindRule

Write = Callable[..., Path]
EXAMPLES = Path(__file__).resolve().parents[3] / "examples/ingest"

GOOD = """\
version: 1
kind: quote
key: instrument
time:
  ts_event: {column: t, unit: iso}
quote: {bid_px: bp, bid_sz: bs, ask_px: ap, ask_sz: as}
"""


def test_a_small_mapping(write: Write) -> None:
    path = write("m.yaml", GOOD)
    mapping = read_mapping(path)
    assert mapping.kind.always == "quote"
    assert [cell.column for cell in mapping.key] == ["instrument"]
    assert set(mapping.fields) == {"quote"}
    assert mapping.fields["quote"]["bid_px"] == Cell(column="bp", place=f"{path}:6")
    assert [time.column for time in mapping.pace] == ["t"]
    assert (mapping.random_ids, mapping.assume_utc, mapping.allow_float) == (False,) * 3


def test_every_key(write: Write) -> None:
    text = (
        GOOD.replace("key: instrument", "key: {venue: {constant: X}, symbol: s}")
        .replace(
            "  ts_event",
            "  ts_recv: {column: r, unit: us}\n  order: {column: o, unit: s}\n  ts_event",
        )
        .replace("kind: quote", "kind: {column: k, quote: q, trade: [t, u]}")
    )
    text += """\
trade: {price: p, size: s, aggressor: {column: m, values: {true: sell, 1: buy}}}
dataset: one
ids: random
source: a source
only: {v: [a, b], w: c}
assume_utc: true
allow_float: true
csv: {delimiter: tab, header: [k, v]}
"""
    mapping = read_mapping(write("m.yaml", text))
    assert mapping.kind.kinds == {"q": "quote", "t": "trade", "u": "trade"}
    assert mapping.key[0].constant == "X"
    assert mapping.fields["trade"]["aggressor"].values == {"true": "sell", "1": "buy"}
    assert (mapping.dataset, mapping.random_ids, mapping.source) == ("one", True, "a source")
    assert mapping.only == {"v": {"a", "b"}, "w": {"c"}}
    assert mapping.assume_utc
    assert mapping.allow_float
    assert (mapping.csv_delimiter, mapping.csv_header) == ("\t", ["k", "v"])
    assert [time.column for time in mapping.pace] == ["o"]


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("version: 1", "version: 2", 1, "'version' is '2'; it must be one of 1"),
        ("kind: quote", "kind: quotes", 2, "'kind' is 'quotes'; it must be one of quote, trade"),
        ("kind: quote", "kinds: quote", 2, "unknown key 'kinds' in the mapping; known: version,"),
        ("kind: quote", "kind: {column: k}", 2, "'kind' says which rows are neither"),
        ("kind: quote", "kind: {quote: q}", 2, "'kind' lacks the key 'column'"),
        ("kind: quote", "kind: {column: k, quote: [q, q]}", 2, "'quote' has 'q', which stands"),
        ("kind: quote", "kind: {column: k, quote: q, trade: []}", 2, "'trade' must be a list"),
        ("kind: quote", "kind: trade", 6, "'quote' is of no use: 'kind' says that there are"),
        ("kind: quote", "kind: {column: k, quote: q, trade: t}", 1, "the mapping lacks the key"),
        ("key: instrument", "key: {venue: v}", 3, "'key' lacks the key 'symbol'"),
        ("key: instrument", "key: [v]", 3, "'key' must be a mapping"),
        ("key: instrument", "key:", 3, "'key' must be a text"),
        ("key: instrument", "key: {venue: {}, symbol: s}", 3, "'venue' must have either 'column'"),
        (
            "key: instrument",
            "key: {venue: {constant: V, values: {a: b}}, symbol: s}",
            3,
            "'values' is of no use beside 'constant'",
        ),
        (
            "key: instrument",
            "key: {venue: {column: V, values: {}}, symbol: s}",
            3,
            "'values' must not be empty",
        ),
        ("key: instrument", "key: a\nkey: b", 4, "the mapping has the key 'key' twice, first at"),
        ("unit: iso", "unit: h", 5, "'unit' is 'h'; it must be one of ns, us, ms, s, iso"),
        ("{column: t, unit: iso}", "t", 5, "'ts_event' must be a mapping"),
        ("{column: t, unit: iso}", "[]", 5, "'ts_event' must be a list that is not empty"),
        ("bid_px: bp", "bid: bp", 6, "unknown key 'bid' in 'quote'"),
        ("bid_px: bp, ", "", 6, "'quote' lacks the key 'bid_px'"),
        ("version: 1", "assume_utc: yes\nversion: 1", 1, "'assume_utc' is 'yes'"),
        ("version: 1", "trade: {}\nversion: 1", 1, "'trade' is of no use"),
        ("version: 1", "csv: {delimiter: ab}\nversion: 1", 1, "'delimiter' is 'ab'"),
        ("version: 1", "csv: {header: [a, a]}\nversion: 1", 1, "'header' names the column 'a'"),
        ("version: 1", "[a]: 1\nversion: 1", 1, "a key of the mapping must be a text"),
        ("version: 1", "version: [1", 2, "is no YAML: "),
        ("version: 1", "version: *a", 1, "is no YAML: found undefined alias"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(
    write: Write, old: str, new: str, line: int, problem: str
) -> None:
    path = write("m.yaml", GOOD.replace(old, new))
    with pytest.raises(IngestError) as caught:
        read_mapping(path)
    assert str(caught.value).startswith(f"{path}:{line}: {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text at byte 1"),
        (b"a: \x00", "is no YAML"),
        (b"[" * 1_000, "is no YAML"),
    ],
)
def test_what_is_no_mapping_file_is_named(write: Write, content: bytes, problem: str) -> None:
    path = write("m.yaml", content)
    with pytest.raises(IngestError) as caught:
        read_mapping(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_missing_mapping_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="cannot be read: No such file"):
        read_mapping(tmp_path / "m.yaml")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_right(path: Path) -> None:
    assert read_mapping(path).kind != KindRule()


def test_the_mapping_in_the_documentation_is_right(write: Write) -> None:
    page = (EXAMPLES.parents[1] / "docs/ingest.md").read_text()
    shown = page.partition("```yaml\n")[2].partition("```")[0]
    assert read_mapping(write("m.yaml", shown)).dataset == "binance-20240808"
