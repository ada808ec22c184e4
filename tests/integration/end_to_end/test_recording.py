"""The recording through ingest and the pipeline: every proof, for a cut and for the whole file."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from .evidence import Evidence
from .figures import figures, save, table
from .proofs import PROOFS
from .run import Run


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.__name__)
def test_proof(finished: Run, proof: Callable[[Evidence], None]) -> None:
    proof(finished.evidence)


def test_figures(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a measure of speed: that there are figures, and where a reader finds them."""
    what = figures(finished)
    assert f"published   {what['rows']:,}\n" in finished.ingest_report
    assert what["orders"] * 20 > what["rows"] * 0.4, "too few orders to prove anything"
    save(finished.plan.name, what)
    if finished.plan.limit is None:
        with capsys.disabled():
            sys.stdout.write(table(finished.plan.name, what))
