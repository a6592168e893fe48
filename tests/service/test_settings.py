import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import OTHER_VARIABLES, Settings, from_environment
from tests.conftest import REPOSITORY


def test_defaults_listen_on_this_machine_only() -> None:
    settings = from_environment({})
    assert settings == Settings()
    assert settings.host == "127.0.0.1"
    assert settings.profiles is not None
    assert settings.profiles.name == "profiles"
    assert from_environment({"MIEN_PROFILES": ""}).profiles is None
    assert settings.bundle.parts[-3:] == ("model_export", "bundles", "base")
    assert settings.answered_hosts == {"localhost", "127.0.0.1", "[::1]"}


def test_every_setting_is_read_from_its_variable() -> None:
    settings = from_environment(
        {
            "MIEN_BUNDLE": "somewhere/bundle",
            "MIEN_PROFILES": "somewhere/profiles",
            "MIEN_HOST": "::1",
            "MIEN_PORT": "0",
            "MIEN_ALLOWED_HOSTS": "headset.local, service",
            "MIEN_ALLOWED_ORIGINS": "https://app.example,http://localhost:3000",
            "MIEN_PROVIDER": "cpu",
            "MIEN_THREADS": "2",
            "MIEN_MAX_MESSAGE_BYTES": "1048576",
            "MIEN_MAX_CONNECTIONS": "3",
            "MIEN_MAX_MALFORMED": "5",
            "MIEN_WATCH": "off",
            "MIEN_RECEIPT_DEADLINE_S": "0.5",
            "MIEN_ANSWER_DEADLINE_S": "1",
            "MIEN_SHUTDOWN_DEADLINE_S": "1.5",
            "PATH": "left alone",
        }
    )
    assert settings == Settings(
        bundle=Path("somewhere/bundle"),
        profiles=Path("somewhere/profiles"),
        host="::1",
        port=0,
        allowed_hosts=("headset.local", "service"),
        allowed_origins=("https://app.example", "http://localhost:3000"),
        provider="cpu",
        threads=2,
        max_message_bytes=1 << 20,
        max_connections=3,
        max_malformed=5,
        watch=False,
        receipt_deadline_s=0.5,
        answer_deadline_s=1.0,
        shutdown_deadline_s=1.5,
    )
    assert settings.answered_hosts == {"localhost", "127.0.0.1", "[::1]", "headset.local", "service"}


@pytest.mark.parametrize(
    ("variable", "text", "named"),
    [
        ("MIEN_PORT", "http", "MIEN_PORT"),
        ("MIEN_PORT", "70000", "port"),
        ("MIEN_PROVIDER", "abacus", "provider"),
        ("MIEN_WATCH", "perhaps", "MIEN_WATCH"),
        ("MIEN_BUNDLE", " ", "MIEN_BUNDLE"),
        ("MIEN_RECEIPT_DEADLINE_S", "nan", "receipt_deadline_s"),
        ("MIEN_RECEIPT_DEADLINE_S", "soon", "MIEN_RECEIPT_DEADLINE_S"),
        ("MIEN_ALLOWED_HOSTS", "http://headset", "allowed_hosts"),
        ("MIEN_ALLOWED_HOSTS", "headset:8000", "allowed_hosts"),
        ("MIEN_ALLOWED_ORIGINS", "app.example", "allowed_origins"),
        ("MIEN_ALLOWED_ORIGINS", "https://*.example", "allowed_origins"),
        ("MIEN_MAX_CONNECTIONS", "0", "max_connections"),
        ("MIEN_MAX_MESSAGE_BYTES", "10", "max_message_bytes"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(variable: str, text: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_environment({variable: text})
    assert refused.value.name == named
    assert "Found" in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("MIEN_PROT", "MIEN_PORT"),
        ("MIEN_PROFILE", "MIEN_PROFILES"),
        ("MIEN_ALLOW_HOST", "MIEN_ALLOWED_HOSTS"),
        ("MIEN_MAX_CONNECTION", "MIEN_MAX_CONNECTIONS"),
        ("MIEN_", None),
        ("MIEN_OF_ANOTHER_TOOL", None),
        ("MIEN_WHATEVER_PORT", None),
    ],
)
def test_a_mistyped_variable_is_refused_with_the_nearest_one(variable: str, meant: str | None) -> None:
    with pytest.raises(SettingsError) as refused:
        from_environment({"MIEN_HOST": "localhost", variable: "9000"})
    error = refused.value
    assert error.name == variable
    assert all(f"MIEN_{setting.name.upper()}" in error.expected for setting in fields(Settings))
    assert error.remedy == f"Did you mean {meant}?" if meant else "Unset it" in error.remedy
    assert all(part in str(error) for part in (variable, error.expected, error.found, error.remedy))


def test_what_kubernetes_sets_for_a_service_called_mien_is_no_setting() -> None:
    linked = {
        "MIEN_SERVICE_HOST": "10.0.0.7",
        "MIEN_SERVICE_PORT": "8000",
        "MIEN_SERVICE_PORT_HTTP": "8000",
        "MIEN_PORT": "tcp://10.0.0.7:8000",
        "MIEN_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "MIEN_PORT_8000_TCP_PROTO": "tcp",
        "MIEN_PORT_8000_TCP_PORT": "8000",
        "MIEN_PORT_8000_TCP_ADDR": "10.0.0.7",
        "MIEN_GPU_SERVICE_HOST": "10.0.0.8",
        "MIEN_GPU_PORT": "tcp://10.0.0.8:8000",
    }
    assert from_environment(linked) == Settings()


def test_every_variable_that_the_repository_names_is_a_setting_or_known_to_be_none() -> None:
    places = ("docker", "tests", "benchmarks", "service", "calibration", "model_export", "docs", ".ci")
    paths = [path for place in places for path in (REPOSITORY / place).rglob("*")]
    texts = [path.read_text() for path in paths if path.suffix in {".py", ".md", ".yaml", ""} and path.is_file()]
    assert any("MIEN_GPU_PORT:-" in text for text in texts)
    found = {name for text in texts for name in re.findall(r"\$\{(MIEN_\w+)|environ\.get\(\"(MIEN_\w+)", text)}
    named = {name for pair in found for name in pair if name}
    known = {f"MIEN_{setting.name.upper()}" for setting in fields(Settings)}
    assert named <= known | OTHER_VARIABLES
    assert named >= OTHER_VARIABLES  # none stays when its use has gone


def test_a_wildcard_address_is_no_name() -> None:
    assert "0.0.0.0" not in Settings(host="0.0.0.0").answered_hosts  # noqa: S104
    assert "192.168.1.5" in Settings(host="192.168.1.5").answered_hosts
    assert "[fe80::1]" in Settings(host="fe80::1").answered_hosts


def test_options_come_before_the_environment() -> None:
    settings = from_environment({"MIEN_PORT": "9000", "MIEN_HOST": "localhost"}).but(port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "localhost")


def test_importing_reads_no_environment() -> None:
    code = (
        "import os\n"
        "class Watched(dict):\n"
        "    def __getitem__(self, key): assert not str(key).startswith('MIEN'), key; return super().__getitem__(key)\n"
        "    def get(self, key, default=None): assert not str(key).startswith('MIEN'), key; return super().get(key, default)\n"
        "os.environ = Watched(os.environ)\n"
        "import service.app, service.serve_command\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
