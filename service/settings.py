"""What a person can set: read from the environment once, checked once, frozen from then on.

Every setting has one environment variable, MIEN_ and the field's name in capitals (MIEN_PORT); lists are separated by commas.
Options of `mien serve` come before the environment, the environment before the defaults. An MIEN_ variable that is none of
them is a mistyped one, and refused: a service that listens elsewhere than it was told to is worse than none.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from service.errors import SettingsError

PREFIX: Final = "MIEN_"
PROVIDERS: Final = ("auto", "cpu", "cuda", "tensorrt")
OTHER_VARIABLES: Final = frozenset({"MIEN_GPU_PORT", "MIEN_CHROMIUM", "MIEN_SHARED"})
"""Variables of compose.yaml and of the tests, which a shell may hand on to the service."""
_SERVICE_LINK: Final = re.compile(
    r"MIEN_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes and linked containers set in every pod for a service called mien or mien-..."""
_LINKED_PORT: Final = re.compile(r"(tcp|udp|sctp)://")
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
"""Names under which a program on this machine reaches the service."""
WILDCARD_HOSTS: Final = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, never bound to
"""Addresses to listen on that no client can name."""


def shipped_bundle() -> Path:
    """Folder of the bundle that is part of the package."""
    return Path(str(files("model_export").joinpath("bundles", "base")))


def user_profiles() -> Path:
    """Folder of this user's profiles."""
    from calibration.profiles import default_folder  # arrays and SQLite, which `mien serve --help` does not need

    return default_folder()


@dataclass(frozen=True, slots=True)
class Settings:
    """How one service process runs; right for production as it stands."""

    bundle: Path = field(default_factory=shipped_bundle)
    """Folder of the bundle to serve."""
    profiles: Path | None = field(default_factory=user_profiles)
    """Folder of the wearers' heads, consents and kept takes; the first profile makes it. None, in the environment an empty text:
    there are no profiles, and everybody gets the bundle's head."""
    host: str = "127.0.0.1"
    """Address to listen on. Pictures of a face arrive here: anything but this machine itself is an explicit choice."""
    port: int = 8000
    """TCP port; 0 takes a free one, which the first log line names."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names in the Host header that are answered, without port; this machine's own always are. "*" answers all."""
    allowed_origins: tuple[str, ...] = ()
    """Further web pages (https://app.example) that may connect; the service's own page and programs without an Origin may."""
    provider: str = "auto"
    """What runs the backbones: auto, cpu, cuda or tensorrt."""
    threads: int = 1
    """Threads of the runtime. More than one made a frame slower on every machine measured."""
    max_message_bytes: int = 256 << 10
    """Longest WebSocket message or HTTP body; three raw 240x240 frames have 172,872 bytes."""
    max_connections: int = 64
    """Headsets at once; one CPU core saturates at about 8 of them at 120 Hz."""
    max_malformed: int = 16
    """So many refused messages in a row end a connection."""
    watch: bool = True
    """Whether the live page and its camera pictures are offered."""
    place_faces: bool = True
    """Whether the crops of wearers without a head of their own follow their faces, from five seconds of movement on. Off: what a
    frame set is answered with depends on its pictures and the filter alone."""
    receipt_deadline_s: float = 3.0
    """A request, header and body, has to arrive in full within this time."""
    answer_deadline_s: float = 5.0
    """An HTTP request that no answer exists for after this time gets an error."""
    shutdown_deadline_s: float = 2.0
    """After SIGTERM clients have this time to answer the close; the process is gone 1.6 s later at the latest."""

    def __post_init__(self) -> None:
        _check("port", 0 <= self.port <= 65535, "a TCP port, 0 to 65535", self.port)
        _check("provider", self.provider in PROVIDERS, f"one of {', '.join(PROVIDERS)}", self.provider)
        _check("threads", 1 <= self.threads <= 64, "1 to 64", self.threads)
        _check(
            "max_message_bytes", 1024 <= self.max_message_bytes <= 64 << 20, "1 KiB to 64 MiB", self.max_message_bytes
        )
        _check("max_connections", 1 <= self.max_connections <= 10_000, "1 to 10000", self.max_connections)
        _check("max_malformed", 1 <= self.max_malformed <= 1_000_000, "1 to 1000000", self.max_malformed)
        for name in ("receipt_deadline_s", "answer_deadline_s", "shutdown_deadline_s"):
            _check(name, 0 < getattr(self, name) <= 3600, "seconds, above 0 and at most 3600", getattr(self, name))
        for host in self.allowed_hosts:
            bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
            odd = not bare or "/" in host or (":" in host and bare == host)
            _check("allowed_hosts", not odd, "host names without scheme and port, IPv6 in brackets", host)
        for origin in self.allowed_origins:
            scheme, _, rest = origin.partition("://")
            fit = scheme in ("http", "https") and bool(rest) and "/" not in rest and "*" not in rest
            _check("allowed_origins", fit, "http(s)://host or http(s)://host:port", origin)

    @property
    def answered_hosts(self) -> frozenset[str]:
        """Every name, lower case and without port, that a Host header may hold; "*" stands for all."""
        own = () if self.host in WILDCARD_HOSTS else (f"[{self.host}]" if ":" in self.host else self.host,)
        return frozenset(name.lower() for name in (*LOCAL_HOSTS, *own, *self.allowed_hosts))

    def but(self, **changes: Any) -> "Settings":
        """These settings with some of them changed; None leaves a setting as it is."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from MIEN_ variables, the defaults where none is set; raises SettingsError that names the variable.

    Raises SettingsError for an MIEN_ variable that is no setting, too.
    """
    environment = os.environ if environment is None else environment
    ours = {name: text for name, text in environment.items() if name.startswith(PREFIX) and not _is_link(name, text)}
    settings = {PREFIX + setting.name.upper(): setting.name for setting in fields(Settings)}
    for variable in sorted(set(ours) - set(settings) - OTHER_VARIABLES):
        raise _unknown(variable, settings)
    found = {
        name: _PARSERS[name](variable, ours[variable].strip())
        for variable, name in settings.items()
        if variable in ours
    }
    return Settings(**found)


def _is_link(variable: str, text: str) -> bool:
    """Whether an orchestrator wrote it: for a service called mien there is an MIEN_PORT=tcp://10.0.0.7:8000, too."""
    return _SERVICE_LINK.fullmatch(variable) is not None or (
        variable.endswith("_PORT") and _LINKED_PORT.match(text) is not None
    )


def _unknown(variable: str, known: Iterable[str]) -> SettingsError:
    names = list(known)
    nearest = get_close_matches(variable.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in names], n=1)
    remedy = (
        f"Did you mean {PREFIX}{nearest[0]}?"
        if nearest
        else "Unset it, or call it otherwise if another program reads it."
    )
    return SettingsError(variable, f"a setting of mien: {', '.join(names)}", "none of that name", remedy)


def _check(name: str, fine: bool, expected: str, found: object) -> None:
    if not fine:
        raise SettingsError(name, expected, repr(found))


def _integer(variable: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(variable, "a whole number", repr(text)) from None


def _seconds(variable: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingsError(variable, "a number of seconds", repr(text)) from None


def _switch(variable: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise SettingsError(variable, "on or off", repr(text))


def _list(_variable: str, text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _folder(variable: str, text: str) -> Path:
    if not text:
        raise SettingsError(variable, "a folder", "an empty text")
    return Path(text)


def _folder_or_none(_variable: str, text: str) -> Path | None:
    return Path(text) if text else None


def _text(_variable: str, text: str) -> str:
    return text


_PARSERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "bundle": _folder,
    "profiles": _folder_or_none,
    "host": _text,
    "port": _integer,
    "allowed_hosts": _list,
    "allowed_origins": _list,
    "provider": _text,
    "threads": _integer,
    "max_message_bytes": _integer,
    "max_connections": _integer,
    "max_malformed": _integer,
    "watch": _switch,
    "place_faces": _switch,
    "receipt_deadline_s": _seconds,
    "answer_deadline_s": _seconds,
    "shutdown_deadline_s": _seconds,
}
