"""Settings of both Streamatiq apps: the defaults, but for the limit of backlog.

A drain fills a queue further than the default allows. The check itself is made all the same.
"""

from __future__ import annotations

from streamatiq.settings import EventBusSettings, Settings

__all__ = ["UNLIMITED"]

#: No limit of backlog.
UNLIMITED = Settings(event_bus=EventBusSettings(max_queue_size=0))
