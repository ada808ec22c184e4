"""The runs, each shared by all tests of it: the cut for `make test`, the others for `make soak`."""

from __future__ import annotations

import pytest

from .recording import recording
from .run import Plan, Run, run

CUT = Plan("cut of 8,000 rows", limit=8_000, speed="max", timeout_s=20)
WHOLE = Plan("whole file", limit=None, speed="max", timeout_s=900)
#: Fast enough to end in a minute and a half, slow enough for latencies that are not queueing.
PACED = Plan("whole file, 4 x the recorded pace", limit=None, speed="4", timeout_s=900)


@pytest.fixture(
    scope="package",
    params=[
        CUT,
        pytest.param(WHOLE, marks=pytest.mark.soak),
        pytest.param(PACED, marks=pytest.mark.soak),
    ],
    ids=lambda plan: plan.name.replace(",", "").replace(" ", "-"),
)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run; skips where the recording is absent."""
    recording()
    return run(request.param, tmp_path_factory.mktemp("e2e"))
