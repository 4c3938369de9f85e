"""The image and the compose file, as far as they can be judged without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from copyd.config import load

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
    "hadolint"
)


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_has_nothing_to_say() -> None:
    said = subprocess.run(
        [str(HADOLINT), "--no-color", str(DEPLOY / "Containerfile")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (said.returncode, said.stdout) == (0, ""), said


def test_what_is_copied_into_the_image_is_let_in_and_exists() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]  # fmt: skip
    let_in = re.findall(r"^!(.+)$", (ROOT / ".containerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(let_in)
    for source in copied:
        assert (ROOT / source).exists(), source


def test_the_image_runs_as_an_account_of_its_own() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert re.search(r"^USER (10001:10001)$", text, re.MULTILINE)
    assert "useradd --uid 10001 " in text
    assert "groupadd --gid 10001 " in text


def test_every_service_says_how_it_is_and_comes_back() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"source", "replica-1", "replica-2", "replica-3", "copyd", "prometheus"}
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name


def test_the_files_that_are_mounted_exist_and_the_volumes_are_declared() -> None:
    for service in COMPOSE["services"].values():
        for mount in service["volumes"]:
            source = mount.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), mount
            else:
                assert source in COMPOSE["volumes"], mount


def test_no_password_stands_in_a_file_and_nothing_is_open_to_the_world() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    for password in re.findall(r"PASSWORD: (.+)", text):
        assert password.startswith("${COPYD_PASSWORD:?")
    published = [port for each in COMPOSE["services"].values() for port in each.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_prometheus_calls_copyd_by_the_name_that_it_answers_to() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]
    host, _, port = scrape["static_configs"][0]["targets"][0].partition(":")
    assert host == COMPOSE["services"]["copyd"]["hostname"]
    assert f'listen = "0.0.0.0:{port}"' in (DEPLOY / "copyd.toml").read_text()


def test_the_configuration_of_the_compose_file_can_be_loaded_in_the_image() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    environ = dict(re.findall(r"(XDG_[A-Z_]+)=(\S+)", text))
    config = load(DEPLOY / "copyd.toml", environ=environ, is_root=False)
    assert set(config.servers) == {"source", "replica-1", "replica-2", "replica-3"}
    assert set(config.servers) <= set(COMPOSE["services"])
    assert str(config.daemon.state_directory) == "/var/lib/copyd"
    assert str(config.daemon.runtime_directory) == "/run/copyd"
