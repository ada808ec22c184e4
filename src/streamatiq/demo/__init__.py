"""`streamatiq demo`: a small trading pipeline, live, on real worker processes.

    run        the whole of one demo, from start to closing report
    handlers   the pipeline itself: what a user of Streamatiq writes; begin reading here
    source     publishes simulated market data at a rate
    workers    starts and stops the `dramatiq` command; `lifeline` ends it if the demo is killed
    place      the server, and the directory of one run
    stop       Ctrl-C, as something to wait for
    meter      reads counters from the server; `screen` shows them while the demo runs
    verify     goes through the logs at the end; `report` shows what was found

Worker processes import `handlers` and `lifeline` only; so this package imports nothing by itself.
"""

from __future__ import annotations

__all__: list[str] = []
