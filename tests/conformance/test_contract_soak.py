"""The slower half of `test_contract`."""

from __future__ import annotations

import pytest
from tests.conformance.adopting import adopted_from

pytestmark = pytest.mark.soak

globals().update(
    adopted_from(
        "contract.test_cancelling",
        "contract.test_consuming",
        "contract.test_declaring",
        "contract.test_lost_retries",
        "contract.test_middleware",
        "contract.test_order",
        "contract.test_workers",
        "faults.test_fencing",
        "faults.test_lost_data",
        "logs.test_dead_letters",
        "logs.test_declaring",
        "logs.test_key_types",
        "logs.test_retries",
    )
)
