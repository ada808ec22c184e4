"""Where events come from: files of market data, and a simulated market."""

from __future__ import annotations

from .bad_rows import BadRowFile
from .ingest import ROOM_TIMEOUT_S, Ingest
from .input import Input, Read
from .mapping import ColumnMapping
from .mapping_file import read_mapping
from .open_file import FORMATS, Format
from .pacing import Pacer
from .problem import BadRow, Skipped
from .progress import progress_on
from .publishing import Publish, PublishReceipt
from .report import IngestReport
from .simulator import MarketSimulator

__all__ = [
    "FORMATS",
    "ROOM_TIMEOUT_S",
    "BadRow",
    "BadRowFile",
    "ColumnMapping",
    "Format",
    "Ingest",
    "IngestReport",
    "Input",
    "MarketSimulator",
    "Pacer",
    "Publish",
    "PublishReceipt",
    "Read",
    "Skipped",
    "progress_on",
    "read_mapping",
]
