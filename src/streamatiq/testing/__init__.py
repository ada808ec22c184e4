"""Tests of handlers without a server: the real broker on a twin of the server in this process.

```python
from streamatiq.testing import TestBroker

import handlers  # what you test: its @on handlers and actors


def test_orders_follow_quotes() -> None:
    with TestBroker.adopt() as broker:
        broker.publish(quote(...))
        broker.run_until_idle()
        assert [order.side for order in broker.published(OrderEvent)] == ["buy"]
```

See `docs/testing.md`.
"""

from __future__ import annotations

from .broker import TestBroker
from .failures import Failure
from .twin import Twin

__all__ = ["Failure", "TestBroker", "Twin"]
