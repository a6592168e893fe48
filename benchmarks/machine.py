"""What a measurement was made on, and what the service's process used meanwhile."""

import os
import platform
import re
import subprocess
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

_PACKAGES: Final = (
    "mien-expression-units",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python-headless",
    "uvicorn",
    "uvloop",
    "websockets",
    "hdrhistogram",
)


def describe_machine() -> dict[str, Any]:
    """Processor, memory, load, versions and code revision."""
    return {
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_before": [round(load, 2) for load in psutil.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "revision": _revision(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit of this repository, with "+" where files differ from it; None outside a clone."""
    folder = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - the person's own git
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],  # noqa: S607 - the person's own git
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


class ServiceUse:
    """What the service's process uses, as its /metrics tell; PSS needs its process id and Linux."""

    def __init__(self, url: str, pid: int | None = None) -> None:
        self._url = f"{url}/metrics"
        self._pid = pid
        self._cpu_s: float | None = None

    def _read(self, name: str) -> float | None:
        with urllib.request.urlopen(self._url, timeout=5) as answer:  # noqa: S310 - a service that a person named
            text = answer.read().decode()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return None if found is None else float(found.group(1))

    def begin(self) -> None:
        """Starts counting processor time."""
        self._cpu_s = self._read("process_cpu_seconds_total")

    def cpu_percent(self, wall_s: float) -> float | None:
        """Share of one core used since `begin`, in percent."""
        now_s = self._read("process_cpu_seconds_total")
        if now_s is None or self._cpu_s is None:
            return None
        return round(100 * (now_s - self._cpu_s) / wall_s, 1)

    def memory_mb(self) -> dict[str, float | None]:
        """Resident memory, and its share where other processes have part of it (PSS), in MB of 10**6 bytes."""
        rss = self._read("process_resident_memory_bytes")
        pss = getattr(psutil.Process(self._pid).memory_full_info(), "pss", None) if self._pid is not None else None
        return {name: None if size is None else round(size / 1e6, 1) for name, size in (("rss", rss), ("pss", pss))}
