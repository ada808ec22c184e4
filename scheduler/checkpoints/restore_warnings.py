"""What whoever restores should know before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from ...broker.checkpoint_scripts import StreamPosition
from ...broker.wording import counted
from .model import Checkpoint
from .restore_plan import StreamRestore

__all__ = ["warnings_of"]


def warnings_of(
    checkpoint: Checkpoint,
    name: str,
    as_name: str,
    streams: Sequence[StreamRestore],
    *,
    window_s: float,
    age_s: float,
    now: Mapping[str, StreamPosition | None],
) -> tuple[str, ...]:
    """Warnings for one subscription.

    Parameters:
      as_name: What it is called then.
      streams: What happens on its streams.
      window_s: How long ids of published events are remembered at least, seconds.
      age_s: Of the checkpoint, seconds.
      now: Where the streams stand.
    """
    found: list[str] = []
    again = sum(one.again for one in streams)
    if name != as_name:
        found.append(
            f"What {as_name!r} emits gets other ids than what {name!r} has emitted: both are "
            "stored. Its business keys begin with none."
        )
    elif again and age_s > window_s:
        until = checkpoint.at + timedelta(seconds=age_s - window_s)
        found.append(
            f"What {name!r} emitted before {until:%Y-%m-%d %H:%M:%S} UTC may be stored twice: ids "
            f"of events are remembered for {window_s:g} s (event_bus.idempotency_window), and the "
            f"checkpoint is {age_s:.0f} s old."
        )
    done_keys = sum(one.done_keys for one in streams)
    if done_keys:
        states = any(one.states for one in streams)
        keys = counted(done_keys, "business key")
        found.append(
            f"{keys} of these events {'is' if done_keys == 1 else 'are'} done, and the handler "
            "does not run again for them"
            + (", so its state will lack them" if states else "")
            + "; free_keys (--free-keys) lets it, with all it does in the outside world."
        )
    inexact = [place for place, one in checkpoint.subscriptions[name].items() if not one.exact]
    if inexact:
        found.append(
            f"On {', '.join(inexact)} more entries were pending than a checkpoint names: all "
            "behind the oldest of them run again, also what was settled before the checkpoint."
        )
    others = [
        place
        for place, stream in now.items()
        if stream is not None
        and name in stream.groups
        and place not in checkpoint.subscriptions[name]
    ]
    if others and name == as_name:
        found.append(f"{name!r} did not read {', '.join(others)} then; there it stays as it is.")
    if checkpoint.settings.get("event_bus.idempotency_window") != window_s:
        found.append("event_bus.idempotency_window has changed since the checkpoint.")
    return tuple(found)
