"""Handlers of replays in processes of their own. Deterministic: what is emitted
follows from the event alone."""

from __future__ import annotations

import os
import time

from tests.integration.replay.app_events import Alarm, Reading, Report

from streamatiq import on

#: Changes what one handler puts out: "today's code".
VERSION = os.environ.get("REPLAY_TEST_VERSION", "1")
#: Seconds that a handler takes.
SLOW_S = float(os.environ.get("REPLAY_TEST_SLOW_S", "0"))


@on(Reading, name="app.watch")
def watch(event: Reading) -> list[Alarm]:
    time.sleep(SLOW_S)
    return [
        Alarm(ts_event=event.ts_event, key=event.key, n=event.n + i) for i in range(event.n % 3)
    ]


@on(Alarm, name="app.report")
def report(event: Alarm) -> Report:
    text = f"alarm {event.n}"
    if VERSION != "1" and event.n % 50 == 0:
        text += " (new)"
    return Report(ts_event=event.ts_event, key=event.key, text=text)


@on(Reading, name="app.dry", on_replay="dry_run")
def dry(event: Reading) -> Report:
    return Report(ts_event=event.ts_event, key=event.key, text=f"dry {event.n}")
