"""The packages stand at the root, are linked into `streamatiq`, and are installed only there."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMPORT_PACKAGE = ROOT / "src/streamatiq"

#: Top-level packages that are linked into the import package.
LINKED = sorted(entry.name for entry in IMPORT_PACKAGE.iterdir() if entry.is_symlink())

#: What must not be in any file: places of one machine, and hosts that serve packages. Put together
#: here, so that this file does not hold them itself.
FOREIGN = [
    *(f"/{name}/" for name in ("work", "farm")),
    ".".join(("pypi", "org")),
    ".".join(("files", "pythonhosted", "org")),
]


def tracked() -> dict[str, str]:
    """The tracked files that exist, with their modes in git."""
    listing = subprocess.run(
        ["git", "ls-files", "-s", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    entries = (entry.split("\t") for entry in listing.split("\0") if entry)
    return {name: head.split()[0] for head, name in entries if os.path.lexists(ROOT / name)}


def module_files() -> list[Path]:
    """The tracked modules of the import package, as real files."""
    tops = (*(f"{name}/" for name in LINKED), "src/streamatiq/")
    return [ROOT / name for name in tracked() if name.startswith(tops) and name.endswith(".py")]


def test_the_linked_packages_are_known() -> None:
    assert {"broker", "cli", "events", "workers"} <= set(LINKED)


@pytest.mark.parametrize("package", LINKED)
def test_a_bare_import_from_the_root_fails(package: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"import {package}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "ImportError: attempted relative import beyond top-level package" in run.stderr


@pytest.mark.parametrize("package", LINKED)
def test_a_link_is_relative_and_tracked_as_a_link(package: str) -> None:
    assert os.readlink(IMPORT_PACKAGE / package) == f"../../{package}"
    assert tracked()[f"src/streamatiq/{package}"] == "120000"
    assert (ROOT / package / "__init__.py").is_file()


def test_every_package_at_the_root_is_linked() -> None:
    """Folders beside the packages that are not installed are listed here by name."""
    at_root = {name.split("/")[0] for name in tracked() if name.count("/") and name.endswith(".py")}
    assert at_root - set(LINKED) <= {"src", "tests", "benchmarks", "examples", "docs"}


def test_the_wheel_holds_the_tracked_files_and_nothing_else(tmp_path: Path) -> None:
    # Built from a copy: what an earlier build left behind would get into the wheel.
    files = tracked()
    copy = tmp_path / "copy"
    for name in files:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check")
    here = ("--no-deps", "--no-build-isolation")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            *quiet,
            *here,
            "--wheel-dir",
            str(tmp_path),
            str(copy),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    installed = {name for name in names if ".dist-info/" not in name}

    expected = {
        name.removeprefix("src/") if name.startswith("src/") else f"streamatiq/{name}"
        for name, mode in files.items()
        if name.startswith(("src/streamatiq/", *(f"{linked}/" for linked in LINKED)))
        and mode != "120000"
    }
    assert installed == expected
    assert {name.split("/")[0] for name in installed} == {"streamatiq"}


def test_no_file_names_a_machine_or_a_package_index() -> None:
    found = [
        f"{name}: {foreign}"
        for name, mode in tracked().items()
        if mode != "120000"
        for foreign in FOREIGN
        if foreign.encode() in (ROOT / name).read_bytes()
    ]
    assert found == []


@pytest.mark.parametrize("file", module_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_all_names_what_a_module_offers(file: Path) -> None:
    """`__all__` is there and without doubles; public functions and classes are in it."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    offered = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets)
    ]
    defined = {
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    }
    if not offered:
        assert defined == set(), "a module that defines something public needs __all__"
        return
    assert len(offered) == 1
    assert len(offered[0]) == len(set(offered[0]))
    assert defined <= set(offered[0])


def test_all_names_exist(tmp_path: Path) -> None:
    """In a process of its own: importing `streamatiq.workers` sets Dramatiq's global broker."""
    check = (
        "import importlib, pkgutil, streamatiq\n"
        "for module in pkgutil.walk_packages(streamatiq.__path__, 'streamatiq.'):\n"
        "    loaded = importlib.import_module(module.name)\n"
        "    for name in getattr(loaded, '__all__', ()):\n"
        "        getattr(loaded, name)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
