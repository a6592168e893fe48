"""The container files agree with the package that they start, and give nothing away. Building them is in docs/docker.md."""

import platform
import re
import shlex
import sys
import tomllib
from dataclasses import fields
from importlib.metadata import files
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from service.serve_command import serve
from service.settings import Settings, from_environment
from service.stream_command import stream
from tests.conftest import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker" / "compose.yaml").read_text())
DOCKERFILE = (REPOSITORY / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
SETTINGS = {f"MIEN_{setting.name.upper()}" for setting in fields(Settings)}


def _instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


def _with_defaults(value: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_each_container_can_do_as_little_as_possible(name: str) -> None:
    container = COMPOSE["services"][name]
    assert container["read_only"] is True
    assert container["tmpfs"] == ["/tmp"]  # noqa: S108 - a path inside the container
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(container)
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", ()))


@pytest.mark.parametrize("name", ["service", "service-gpu"])
def test_the_services_environment_is_settings_that_exist(name: str) -> None:
    environment = {key: _with_defaults(value) for key, value in COMPOSE["services"][name]["environment"].items()}
    assert set(environment) <= SETTINGS
    settings = from_environment(environment)
    assert name in settings.answered_hosts
    assert settings.provider == ("cuda" if name == "service-gpu" else "cpu")


@pytest.mark.parametrize("name", ["service", "service-gpu"])
def test_names_of_ones_own_do_not_shut_the_sample_headset_out(name: str) -> None:
    hosts = COMPOSE["services"][name]["environment"]["MIEN_ALLOWED_HOSTS"].replace(
        "${MIEN_ALLOWED_HOSTS:-}", "lab.example"
    )
    assert from_environment({"MIEN_ALLOWED_HOSTS": hosts}).answered_hosts >= {name, "lab.example"}


@pytest.mark.parametrize("name", ["service", "service-gpu"])
def test_profiles_outlive_the_container_in_a_folder_of_the_images_user(name: str) -> None:
    container = COMPOSE["services"][name]
    (mount,) = container["volumes"]
    volume, _, folder = mount.partition(":")
    assert volume in COMPOSE["volumes"]
    assert PurePosixPath(container["environment"]["MIEN_PROFILES"]).parent == PurePosixPath(folder)
    (made,) = (command for command in _instructions("RUN") if command.startswith("install"))
    user, _, group = _instructions("USER")[0].partition(":")
    assert made == f"install -d -o {user} -g {group} -m 700 {folder}"


def test_the_gpu_service_starts_only_when_asked_for() -> None:
    assert COMPOSE["services"]["service-gpu"]["profiles"] == ["gpu"]
    assert COMPOSE["services"]["service-gpu"]["build"]["args"]["GPU"] == "1"
    assert "GPU=0" in _instructions("ARG")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="onnxruntime-gpu is for Linux on x86-64"
)
def test_what_the_cpu_image_leaves_out_is_there_to_leave_out() -> None:
    left_out = re.findall(r"onnxruntime/capi/(\S+\.so)", DOCKERFILE)
    assert len(left_out) == 2
    installed = {file.name for file in files("onnxruntime-gpu") or ()}
    assert set(left_out) <= installed


def test_the_headset_waits_for_the_service_and_its_command_is_one() -> None:
    headset = COMPOSE["services"]["headset"]
    assert headset["depends_on"] == {"service": {"condition": "service_healthy"}}
    name, *arguments = headset["command"]
    assert name == "stream"
    options = stream.make_context("stream", arguments).params
    assert options["loop"] is True
    assert headset["image"] == COMPOSE["services"]["service"]["image"]
    assert headset["pull_policy"] == "never"
    assert options["url"] == "ws://service:8000/v1/stream"
    assert f'ln -s "$take" {options["source"]}' in DOCKERFILE


def test_the_image_runs_as_nobody_in_particular() -> None:
    (user,) = _instructions("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert DOCKERFILE.index("USER") < DOCKERFILE.index("ENTRYPOINT")


def _environment() -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(" ".join(_instructions("ENV"))))


def test_the_runtime_reports_to_nobody() -> None:
    assert _environment()["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_image_listens_where_it_says() -> None:
    environment = _environment()
    settings = from_environment({key: value for key, value in environment.items() if key in SETTINGS})
    assert settings.host == "0.0.0.0"  # noqa: S104 - inside the container; compose binds it to this machine
    assert [str(settings.port)] == _instructions("EXPOSE")
    assert _instructions("ENTRYPOINT") == ['["mien"]']
    (command,) = (text for text in _instructions("CMD") if "readyz" not in text)
    assert command == f'["{serve.name}"]'


def test_both_stages_stand_on_the_base_that_was_asked_for() -> None:
    stages = _instructions("FROM")
    assert [stage.split()[0] for stage in stages] == ["${BASE_IMAGE}"] * 2
    assert any(argument.startswith("BASE_IMAGE=python:3.11") for argument in _instructions("ARG"))


def test_the_build_context_holds_the_packages_and_nothing_else() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == packages | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
