"""The broker's own tests once more, on the twin: one suite, two servers.

They are the same functions; here `redis_url` is the twin's. What needs a server of its own, real
processes, or Dramatiq's Redis backends for results and barriers, is left to the real server.
"""

from __future__ import annotations

from tests.conformance.adopting import adopted_from

globals().update(
    adopted_from(
        "contract.test_actors",
        "contract.test_administration",
        "contract.test_ageing",
        "contract.test_backpressure",
        "contract.test_bulk_and_lanes",
        "contract.test_dead_letters",
        "contract.test_enqueuing",
        "contract.test_retries",
        "logs.test_audit",
        "logs.test_backpressure",
        "logs.test_handlers",
        "logs.test_publish",
        "logs.test_read",
        "logs.test_settle_script",
    )
)
