"""A wall clock that jumps in the middle: equal outputs, no negative time left, locks that hold."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.io import alone
from stages.core.progress import progress

ROOT = Path(__file__).parents[2]
HOUR = 3600
# Loaded by Python before anything else: after CALLS calls the wall clock is off by JUMP seconds.
JUMPING = """
import os, time
real, real_ns, asked = time.time, time.time_ns, [0]
def jump():
    asked[0] += 1
    return int(os.environ["JUMP"]) if asked[0] > int(os.environ["CALLS"]) else 0
time.time = lambda: real() + jump()
time.time_ns = lambda: real_ns() + jump() * 10**9
"""


@pytest.mark.process
@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_the_time_left_is_never_negative_and_the_lock_holds(jump: int, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    program = (
        "import logging, time; from pathlib import Path\n"
        "from stages.core.io import alone; import stages.core.progress as p\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s'); p.SILENT_S = 0.0\n"
        "with alone(Path('lock'), 'work'):\n"
        "    for i in p.progress(range(5), 5, 'frames'): time.sleep(0.01); time.time()\n"
    )
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "JUMP": str(jump), "CALLS": "3"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("progress frames")]
    assert lines
    assert not re.search(r"-\d", done.stderr)
    with alone(tmp_path / "lock", "work", patience_s=0.0):
        assert list(progress([1], 1, "after"))


STAGES = ("stages.make_world", "stages.generate_masks")


def made(root: Path, jump: int) -> dict[str, bytes]:
    """The data of two stages under a clock that jumps after 20 calls."""
    (root / "clock").mkdir(parents=True)
    (root / "clock/sitecustomize.py").write_text(JUMPING)
    (root / "params.yaml").write_bytes((ROOT / "infra/params/smoke.yaml").read_bytes())
    env = os.environ | {"PYTHONPATH": f"{root}/clock:{ROOT}", "JUMP": str(jump), "CALLS": "20"}
    for module in STAGES:
        done = subprocess.run([sys.executable, "-m", module], cwd=root, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    paths = [path for path in sorted((root / "data").rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_stages_make_the_same_bytes_when_the_clock_jumps(tmp_path: Path) -> None:
    assert made(tmp_path / "jumps", -HOUR) == made(tmp_path / "runs", 0)
