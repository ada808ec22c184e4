"""Helpers that tests share: waiting, child processes, Dramatiq workers, a cutting proxy.

Import them from here: `from tests.support import wait_until`. `tests` is found without a change to
`sys.path` (which would let a bare `import broker` find the folder at the repository's root):
pytest, in its importlib mode, puts the package in place when it loads `tests/conftest.py`.
"""

from .dramatiq_cli import DramatiqWorkers, dramatiq_workers
from .processes import Child, Finished, kill_leftovers, run_python, start_python
from .proxy import CuttingProxy
from .waiting import wait_gone, wait_until

__all__ = [
    "Child",
    "CuttingProxy",
    "DramatiqWorkers",
    "Finished",
    "dramatiq_workers",
    "kill_leftovers",
    "run_python",
    "start_python",
    "wait_gone",
    "wait_until",
]
