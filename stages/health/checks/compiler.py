"""The compiler and ninja: DeepSpeed compiles a helper at its first use."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.health.finding import Finding


def check(root: Path) -> Iterator[Finding]:
    """g++ (or what CXX names) and ninja, both found and able to start."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    tools = (os.environ.get("CXX") or "g++", "install a compiler: `apt-get install g++`"), ("ninja", "`make reproduce`")
    for tool, then in tools:
        found = shutil.which(tool, path=path)
        said = _version(found) if found else ""
        if said:
            yield Finding("compiler", "ok", said)
        else:
            came = f"{found} that does not start" if found else f"no {tool}"
            yield Finding("compiler", "bad", came, f"{tool}: train_pruner compiles DeepSpeed's optimizer", then)


def _version(tool: str) -> str:
    try:
        answer = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"{Path(tool).name}: {answer.stdout.splitlines()[0]}" if answer.returncode == 0 and answer.stdout else ""
