"""Each format: what can be told apart is a row, and nothing is lost on the way."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.errors import IngestError
from streamatiq.sources.csv_file import CsvFile
from streamatiq.sources.jsonl_file import JsonLinesFile
from streamatiq.sources.open_file import open_rows
from streamatiq.sources.row_file import RowFile, Unreadable
from streamatiq.sources.text_lines import MAX_LINE_BYTES, TextLines

Write = Callable[..., Path]


def rows_of(file: RowFile) -> list[tuple[int, Any]]:
    """Rows by number; an unreadable one by its reason."""
    with file:
        return [
            (number, row.reason if isinstance(row, Unreadable) else dict(row))
            for number, row in file.rows(frozenset())
        ]


def test_csv_cells_are_the_text_that_stands_there(write: Write) -> None:
    path = write("a.csv", 'px,name\n1.10000,"a, ""b"""\n\n00.5, x\n')
    assert rows_of(CsvFile(path)) == [
        (2, {"px": "1.10000", "name": 'a, "b"'}),
        (4, {"px": "00.5", "name": "x"}),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1\n", "has 1 cells for 2 columns"),
        (b"1,2,3\n", "has 3 cells for 2 columns"),
        (b'1,"2\n', "has a quote that is not closed"),
        (b'1,"2"x\n', "is no CSV: ',' expected after '\"'"),
        (b"1,\xff\n", "is not UTF-8 text at byte 3"),
        (b"1," + b"x" * 200_000 + b"\n", "is no CSV: field larger than field limit (131072)"),
        (b"1," + b"x" * MAX_LINE_BYTES + b"\n", "is longer than 1,048,576 bytes"),
    ],
)
def test_a_bad_csv_line_costs_itself_alone(write: Write, line: bytes, reason: str) -> None:
    path = write("a.csv", b"a,b\n1,2\n" + line + b'"3",4\n')
    good = {"a": "1", "b": "2"}
    assert rows_of(CsvFile(path)) == [(2, good), (3, reason), (4, {"a": "3", "b": "4"})]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; its first line should name the columns"),
        (b"a,b,a\n", "line 1 names the column 'a' twice"),
        (b"\n1,2\n", "line 1 names no columns"),
        (b"\xffa,b\n", "line 1, which should name the columns, is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16 or UTF-32 text; convert it to UTF-8"),
        (b"PAR1\x00\r\rPAR1", "line 1"),
    ],
)
def test_a_csv_file_without_a_usable_header_is_refused(
    write: Write, content: bytes, problem: str
) -> None:
    path = write("a.csv", content)
    with pytest.raises(IngestError) as caught:
        CsvFile(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_byte_order_mark_of_utf_8_is_no_part_of_the_header(write: Write) -> None:
    with CsvFile(write("a.csv", b"\xef\xbb\xbfa,b\n1,2\n")) as file:
        assert file.columns == ["a", "b"]


def test_a_tsv_and_a_header_from_outside(write: Write) -> None:
    path = write("a.tsv.gz", gzip.compress(b"1\t2\n"))
    with open_rows(path, header=["a", "b"]) as file:
        assert rows_of(file) == [(1, {"a": "1", "b": "2"})]


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")),
            min_size=2,
            max_size=2,
        )
    )
)
def test_what_the_csv_module_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *cells])
    read = [(number, dict(zip("ab", row, strict=True))) for number, row in enumerate(cells, 2)]
    assert rows_of(CsvFile(path)) == read


def test_json_numbers_are_exact(write: Write) -> None:
    path = write("a.jsonl", '{"px": 0.1000, "n": 12345678901234567890, "b": true}\n\n{"px": null}')
    (first, row), last = rows_of(JsonLinesFile(path))
    assert (first, row["n"], row["b"]) == (1, 12345678901234567890, True)
    assert isinstance(row["px"], Decimal)
    assert str(row["px"]) == "0.1000"
    assert last == (3, {"px": None})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "is no JSON: Expecting ',' delimiter"),
        (b"[1]", "is JSON, but no object: list"),
        (b'{"a": NaN}', "is no JSON: NaN is no JSON number"),
        (b'{"a": 1, "b": 2, "a": 3}', "is no JSON: the key 'a' stands twice"),
        (b'{"a": "\xff"}', "is not UTF-8 text at byte 8"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is no JSON: Exceeds the limit"),
        (b'{"a": ' + b"[" * 200_000, "is no JSON: "),
        (b" " * MAX_LINE_BYTES + b"{}", "is longer than 1,048,576 bytes"),
    ],
)
def test_a_bad_json_line_costs_itself_alone(write: Write, line: bytes, reason: str) -> None:
    path = write("a.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    first, (number, found), last = rows_of(JsonLinesFile(path))
    assert (first, number, last) == ((1, {"a": 1}), 2, (3, {"a": 2}))
    assert found.startswith(reason)


def test_looking_at_the_first_json_row_takes_nothing_away(write: Write) -> None:
    file = JsonLinesFile(write("a.jsonl", '{"a"\n{"b": 1, "c": 2}\n{"d": 3}\n'))
    assert file.first_row_columns() == ("b", "c")
    assert [number for number, _ in rows_of(file)] == [1, 2, 3]


def test_gzip_that_is_cut_off_is_one_error_after_its_rows(write: Write) -> None:
    text = b"".join(b'{"a": %d}\n' % (number * 7919 % 99991) for number in range(20_000))
    path = write("a.jsonl.gz", gzip.compress(text)[:-2000])
    seen = []
    with JsonLinesFile(path) as file, pytest.raises(IngestError) as caught:
        seen.extend(number for number, _ in file.rows(()))
    assert len(seen) > 1000
    assert f"{path}: the gzip data is damaged or cut off after line {len(seen)}" in str(
        caught.value
    )


def test_the_fraction_read_grows_to_one(write: Write) -> None:
    path = write("a.csv", "a,b\n" + "1,2\n" * 100_000)
    with CsvFile(path) as file:
        assert file.fraction_read() < 0.5
        for _ in file.rows(()):
            pass
        assert file.fraction_read() == 1.0


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.csv", "there is no such file"),
        ("folder", "is not a regular file"),
        ("a.xlsx", "the name says no known format; known are .csv, .tsv, .jsonl, .ndjson"),
    ],
)
def test_a_file_that_cannot_be_opened_is_named(write: Write, name: str, problem: str) -> None:
    write("folder/a.txt", "")
    path = write("a.xlsx", "").with_name(name)
    with pytest.raises(IngestError) as caught:
        open_rows(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_file_without_permission_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write("a.csv", "a\n1\n")
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(IngestError, match=r"a\.csv: cannot be read: Permission denied"):
        open_rows(path)


def test_a_disk_that_fails_is_one_error_with_the_line(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = TextLines(write("a.csv", "a\n1\n"))
    numbered = iter(lines)
    assert next(numbered) == (1, b"a\n")

    class FailingStream:
        def readline(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

        def close(self) -> None:
            pass

    monkeypatch.setattr(lines, "_stream", FailingStream())
    with pytest.raises(IngestError, match="cannot be read after line 1: Input/output error"):
        next(numbered)
    lines.close()
