"""Every module can be imported, and coverage sees every one of them.

Coverage cannot find unimported modules behind symlinks by itself, and would count them as absent
rather than as not covered. The imports happen in a process of their own, because importing
`streamatiq.workers` sets Dramatiq's global broker.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import importlib, pkgutil, streamatiq

def fail(name):
    raise

names = ["streamatiq"]
for module in pkgutil.walk_packages(streamatiq.__path__, "streamatiq.", onerror=fail):
    importlib.import_module(module.name)
    names.append(module.name)
print("\\n".join(names))
"""


def module_files() -> set[str]:
    """Names of all modules, from the files; behind links too, which rglob does not follow."""
    package = ROOT / "src/streamatiq"
    tops = [package, *(entry.resolve() for entry in package.iterdir() if entry.is_symlink())]
    names = set()
    for top in tops:
        above = ["streamatiq"] if top == package else ["streamatiq", top.name]
        for file in top.rglob("*.py"):
            parts = [*above, *file.relative_to(top).with_suffix("").parts]
            names.add(".".join(parts).removesuffix(".__init__"))
    return names


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.split()) == module_files()
