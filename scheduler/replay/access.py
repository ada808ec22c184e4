"""From a broker to its replays."""

from __future__ import annotations

from ...broker import RedisStreamsBroker
from ...broker.connections import LinkPool, RetryPolicy
from .outputs import output_digest, sorted_outputs, stored_outputs
from .store import ReplayStore

__all__ = ["links_of", "replay_output", "store_of"]


def links_of(broker: RedisStreamsBroker) -> LinkPool:
    """Connections to a broker's server."""
    redis = broker.settings.redis
    return LinkPool(broker.endpoint, RetryPolicy(redis.max_retries, float(redis.retry_delay)))


def store_of(broker: RedisStreamsBroker) -> ReplayStore:
    """The replays of a broker's namespace."""
    return ReplayStore(broker.keys, links_of(broker))


def replay_output(broker: RedisStreamsBroker, replay_id: str) -> tuple[str, int]:
    """Digest, hex, and number of events, of what an isolated replay has put out; see `outputs`."""
    links = links_of(broker)
    with sorted_outputs(stored_outputs(broker.keys, replay_id, links)) as outputs:
        return output_digest(outputs)
