"""What deploys the fleet fits together: compose, images, units and settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from soundfleet_producer.settings import ENV_PREFIX, Settings
from soundfleet_schemas import CATALOG, FETCH_WEB, GROUP, Keys, Lane, Limits, Priority

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").iterdir())

SERVICE_KEYS = {
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "deploy",
    "environment",
    "healthcheck",
    "image",
    "init",
    "ports",
    "profiles",
    "restart",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "volumes",
}
"""The part of the Compose specification that the file uses."""
SIZE = re.compile(r"\d+[kmg]b")
DURATION = re.compile(r"\d+s")
PORT = re.compile(r"127\.0\.0\.1:\d+:\d+")
VARIABLE = re.compile(rf"\b{ENV_PREFIX}([A-Z0-9_]+)")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def seconds(duration: str) -> int:
    """A compose duration."""
    return int(duration.removesuffix("s"))


def workers(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that run a worker."""
    return {name: service for name, service in compose["services"].items() if name.endswith("worker")}


def test_every_key_of_a_service_is_of_the_specification(compose: dict[str, Any]) -> None:
    """And its values have the specification's form."""
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert "image" in service
        assert SIZE.fullmatch(service.get("shm_size", "1gb"))
        assert DURATION.fullmatch(service.get("stop_grace_period", "1s"))
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        for port in service.get("ports", []):
            assert PORT.fullmatch(port), f"{name} is published beyond this machine"
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"]
        for needed, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in compose["services"][needed]


def test_every_image_is_pinned_or_built(compose: dict[str, Any]) -> None:
    """No ``latest``; what is built names a Dockerfile that is there."""
    for name, service in compose["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            continue
        assert re.search(r":[\w.-]*\d[\w.-]*$", service["image"]), f"{name} has no version"


def test_redis_keeps_jobs_rather_than_caching_them(compose: dict[str, Any]) -> None:
    """The log is on and nothing is evicted."""
    command = compose["services"]["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


def test_a_worker_is_stopped_later_than_it_drains(compose: dict[str, Any]) -> None:
    """Else a drain is cut off by the container's end; and it is told by a signal, as its own process 1's child."""
    assert len(workers(compose)) == 3
    for service in workers(compose).values():
        grace = float(service["environment"].get("SOUNDFLEET_GRACE_SEC", Settings().grace_sec))
        assert seconds(service["stop_grace_period"]) >= grace + 15
        assert service["init"] is True
        assert service["restart"] == "unless-stopped"


def test_a_gpu_is_reserved_only_under_its_profile(compose: dict[str, Any]) -> None:
    """A machine without one starts the rest."""
    gpu = compose["services"]["gpu-worker"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
    assert "profiles" not in compose["services"]["worker"]


def test_the_fleet_and_its_storage_share_one_bucket_and_one_pair_of_keys(compose: dict[str, Any]) -> None:
    """By the same variables, so that setting one sets both."""
    storage = compose["services"]["s3"]["environment"]
    for name, service in workers(compose).items():
        environment = service["environment"]
        assert environment["AWS_ACCESS_KEY_ID"] == storage["AWS_ACCESS_KEY_ID"], name
        assert environment["AWS_SECRET_ACCESS_KEY"] == storage["AWS_SECRET_ACCESS_KEY"], name
        assert environment["SOUNDFLEET_BUCKET"] == storage["S3_BUCKET"], name


@pytest.mark.parametrize(
    "path",
    [COMPOSE, *DOCKERFILES, *UNITS, *MANIFESTS, ROOT / "benchmarks" / "contest" / "ours.py"],
    ids=lambda path: path.name,
)
def test_every_variable_is_a_setting(path: Path) -> None:
    """A misspelt one would stop the worker at its start."""
    limits = {f"limits_{name}" for name in Limits.__struct_fields__}
    known = set(Settings.__struct_fields__) | limits | {"config"}
    assert {name.lower() for name in VARIABLE.findall(path.read_text(encoding="utf-8"))} <= known


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_what_is_there_and_runs_as_nobody_special(path: Path) -> None:
    """Sources exist, the ignore file lets them through, the last user is not root."""
    lines = path.read_text(encoding="utf-8").splitlines()
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert copied
    for source in [source for sources in copied for source in sources]:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore, source
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER soundfleet"
    assert [line for line in lines if line.startswith("ENTRYPOINT ")][-1].startswith('ENTRYPOINT ["soundfleet"')


def test_the_producer_image_has_no_torch() -> None:
    """It publishes; it does not compute."""
    text = (ROOT / "deploy" / "Dockerfile.producer").read_text(encoding="utf-8")
    assert "RUN pip install -c constraints.txt .\n" in text


def test_a_worker_that_only_downloads_has_an_image_without_torch(compose: dict[str, Any]) -> None:
    """Its stage installs what fetching needs, serves one lane, and the others leave that lane to it."""
    text = (ROOT / "deploy" / "Dockerfile.worker").read_text(encoding="utf-8")
    stages = {stage.split("\n", 1)[0].rpartition(" ")[2]: stage for stage in text.split("\nFROM ")}
    assert "torch" not in stages["fetch-build"] + stages["source"]
    assert '".[fetch]"' in stages["fetch-build"]
    assert f'ENTRYPOINT ["soundfleet", "worker", "--only", "{FETCH_WEB}"]' in stages["fetch"]
    assert compose["services"]["fetch-worker"]["build"]["target"] == "fetch"
    slots = {name: service["environment"]["SOUNDFLEET_FETCH_SLOTS"] for name, service in workers(compose).items()}
    assert slots == {"worker": "0", "gpu-worker": "0", "fetch-worker": "8"}


def test_the_unit_drains_before_it_is_killed() -> None:
    """The signal goes to the supervisor alone, and the wait is longer than its grace period."""
    unit = (ROOT / "deploy" / "systemd" / "soundfleet-worker@.service").read_text(encoding="utf-8")
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["KillMode"] == "mixed"
    assert settings["KillSignal"] == "SIGTERM"
    assert int(settings["TimeoutStopSec"]) >= Settings().grace_sec + 15


def manifests(name: str) -> list[dict[str, Any]]:
    """The objects of a file of Kubernetes."""
    return list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / name).read_text(encoding="utf-8")))


def manifest(name: str, kind: str) -> dict[str, Any]:
    """One of them."""
    return next(document for document in manifests(name) if document["kind"] == kind)


@pytest.mark.parametrize("name", ["worker.yaml", "fetch-worker.yaml"])
def test_a_pod_drains_before_it_is_killed(name: str) -> None:
    """Its grace period is longer than the worker's; it runs as the image's user, with scratch in memory."""
    pod = manifest(name, "Deployment")["spec"]["template"]["spec"]
    grace = float(manifest("worker.yaml", "ConfigMap")["data"]["SOUNDFLEET_GRACE_SEC"])
    assert pod["terminationGracePeriodSeconds"] >= grace + 15
    assert pod["securityContext"]["runAsUser"] == 10001
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert ("/models" in mounts) is (name == "worker.yaml")


def test_autoscaling_looks_at_lanes_that_exist() -> None:
    """Each stream is a lane of the catalogue, or of downloads, in the group that workers read."""
    scaled = {document["metadata"]["name"]: document for document in manifests("autoscale.yaml")}
    for name, document in scaled.items():
        for trigger in document["spec"]["triggers"]:
            service, _, priority = trigger["metadata"]["stream"].removeprefix(Keys().lane_prefix).partition(":")
            kind, _, backend = service.partition(".")
            assert Keys().lane(Lane(kind, backend, Priority(priority))) == trigger["metadata"]["stream"]
            known = service == FETCH_WEB if name == "soundfleet-fetch-worker" else CATALOG[backend].kind == kind
            assert known, service
            assert trigger["metadata"]["consumerGroup"] == GROUP
    names = {manifest(name, "Deployment")["metadata"]["name"] for name in ("worker.yaml", "fetch-worker.yaml")}
    assert {document["spec"]["scaleTargetRef"]["name"] for document in scaled.values()} == names


def test_compose_itself_reads_the_file() -> None:
    """Where its command is installed; no engine is needed."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker compose is not installed")
    read = subprocess.run([docker, "compose", "-f", str(COMPOSE), "config", "-q"], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
