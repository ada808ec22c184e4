"""Makes `benchmarks` importable here, without putting the repository's root on `sys.path`.

(A root on the path would let a bare `import broker` find the folder there.)
"""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

if "benchmarks" not in sys.modules:
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location(
        "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = package
    spec.loader.exec_module(package)


@pytest.fixture
def root() -> Path:
    """The repository's root."""
    return ROOT
