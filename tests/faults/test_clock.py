"""A wall clock that jumps at the start or in the middle: equal outputs, no negative time left, locks that lock."""

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
# Loaded by Python before anything else: after CALLS questions the wall clock is JUMP seconds elsewhere.
JUMPING = """
import os, time
real, real_ns, asked = time.time, time.time_ns, [0]
def jump():
    asked[0] += 1
    return int(os.environ["JUMP"]) if asked[0] > int(os.environ["CALLS"]) else 0
time.time = lambda: real() + jump()
time.time_ns = lambda: real_ns() + jump() * 10**9
"""


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -56 * 365 * 24 * HOUR])
def test_what_is_left_is_never_negative_and_the_lock_holds(jump: int, tmp_path: Path) -> None:
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


def run(root: Path, module: str, jump: int, calls: int) -> None:
    env = os.environ | {"PYTHONPATH": f"{root}/clock:{ROOT}", "JUMP": str(jump), "CALLS": str(calls)}
    done = subprocess.run([sys.executable, "-m", module], cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def contents(root: Path) -> dict[str, bytes]:
    paths = [path for path in sorted((root / "data").rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize(("jump", "calls"), [(-HOUR, 0), (HOUR, 20), (-HOUR, 20), (-50 * 365 * 24 * HOUR, 5)])
def test_stages_make_the_same_bytes_when_the_clock_jumps(
    jump: int, calls: int, tmp_path: Path, unmoved: dict[str, bytes]
) -> None:
    prepare(tmp_path)
    for module in STAGES:
        run(tmp_path, module, jump, calls)
    assert contents(tmp_path) == unmoved


STAGES = ("stages.make_world", "stages.generate_masks", "stages.prepare_truths")


def prepare(root: Path) -> None:
    (root / "clock").mkdir()
    (root / "clock/sitecustomize.py").write_text(JUMPING)
    (root / "params.yaml").write_bytes((ROOT / "infra/params/smoke.yaml").read_bytes())


@pytest.fixture(scope="module")
def unmoved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What three stages make by a clock that runs as it should."""
    root = tmp_path_factory.mktemp("unmoved")
    prepare(root)
    for module in STAGES:
        run(root, module, 0, 0)
    return contents(root)
