"""Parquet: exact cells, batches, and damage named as one error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamatiq.errors import IngestError
from streamatiq.sources.parquet_file import BATCH_ROWS, ParquetFile

Write = Callable[..., Path]


def parquet(tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_cells_keep_all_their_digits(tmp_path: Path) -> None:
    ns = 1723161253937000251
    path = parquet(
        tmp_path,
        {
            "text": pa.array(["0.10", None]).dictionary_encode(),
            "decimal": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
            "zoned": pa.array([ns, None], pa.timestamp("ns", "Europe/Paris")),
            "naive": pa.array([datetime(2024, 8, 8, 1, 2, 3, tzinfo=UTC), None], pa.timestamp("s")),
            "day": pa.array([date(2024, 8, 8), None]),
            "flag": [True, None],
            "unused": [1, 2],
        },
        compression="zstd",
    )
    wanted = ["text", "decimal", "zoned", "naive", "day", "flag"]
    with ParquetFile(path) as file:
        (one, first), (two, second) = file.rows(wanted)
    assert (one, two) == (1, 2)
    assert first == {
        "text": "0.10",
        "decimal": Decimal("1.50"),
        "zoned": "2024-08-08 23:54:13.937000251Z",
        "naive": "2024-08-08 01:02:03.000",
        "day": "2024-08-08",
        "flag": True,
    }
    assert str(first["decimal"]) == "1.50"
    assert second == dict.fromkeys(wanted)


def test_many_batches_are_numbered_through(tmp_path: Path) -> None:
    count = 2 * BATCH_ROWS + 7
    path = parquet(tmp_path, {"n": list(range(count))}, row_group_size=1000)
    with ParquetFile(path) as file:
        assert [(number, row["n"]) for number, row in file.rows({"n"})] == [
            (n + 1, n) for n in range(count)
        ]
        assert file.fraction_read() == 1.0


def test_float_columns_are_known(tmp_path: Path) -> None:
    with ParquetFile(parquet(tmp_path, {"a": [1.5], "b": ["1.5"]})) as file:
        assert file.float_columns == {"a"}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"a,b\n1,2\n"])
def test_what_is_no_parquet_is_one_error(write: Write, content: bytes) -> None:
    path = write("a.parquet", content)
    with pytest.raises(IngestError, match="is no Parquet file that can be read: ") as caught:
        ParquetFile(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_error(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"n": list(range(10_000))})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IngestError, match="is no Parquet file that can be read"):
        ParquetFile(path)


def test_a_damaged_page_is_one_error_after_the_rows_before_it(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"n": [str(n) for n in range(20_000)]}, row_group_size=5000)
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 5
    content[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    seen = []
    with ParquetFile(path) as file, pytest.raises(IngestError) as caught:
        seen.extend(number for number, _ in file.rows({"n"}))
    assert len(seen) >= 5000
    assert f"{path}: is damaged after row {len(seen):,}: " in str(caught.value)


def test_without_pyarrow_the_extra_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(IngestError, match=r"pip install 'streamatiq\[ingest\]'"):
        ParquetFile(write("a.parquet", b""))
