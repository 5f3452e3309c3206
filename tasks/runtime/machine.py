"""Facts about this machine and this process's environment, as a receipt records them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


def installed_packages() -> dict[str, str]:
    """Name → version of every installed package."""
    packages = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions() if d.metadata["Name"]}
    return dict(sorted(packages.items()))


def hardware() -> dict[str, Any]:
    import psutil

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "gpus": gpus(),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or sys.platform
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def gpus() -> list[str]:
    """Name and memory of each GPU, from nvidia-smi: importing torch takes seconds."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in result.stdout.splitlines() if line.strip()] if result.returncode == 0 else []
