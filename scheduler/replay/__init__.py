"""Replays: reading ranges of logs again, at a chosen speed, into a chosen target."""

from __future__ import annotations

from .access import replay_output, store_of
from .controls import Status
from .diff import Difference, ReplayDiff, diff_replays
from .items import Place, Replayed
from .making import define_replay, replay, resume_replay
from .monitor import EventMonitor
from .records import Definition, Record, Standing
from .report import ReplayReport
from .run import Replay
from .spec import ReplaySpec
from .store import ReplayStore
from .workers import WorkerOptions

__all__ = [
    "Definition",
    "Difference",
    "EventMonitor",
    "Place",
    "Record",
    "Replay",
    "ReplayDiff",
    "ReplayReport",
    "ReplaySpec",
    "ReplayStore",
    "Replayed",
    "Standing",
    "Status",
    "WorkerOptions",
    "define_replay",
    "diff_replays",
    "replay",
    "replay_output",
    "resume_replay",
    "store_of",
]
