"""Shards of work: order, named errors, no process left behind; every item in exactly one task of an array."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core.errors import DataError, MachineError, ParamsError
from stages.core.shards import map_shards, own_device, share_of, turn_of

ROOT = Path(__file__).parents[2]
ITEMS = list(range(10))


def square(x: int) -> int:
    time.sleep(0.02 * (5 - x))  # the later, the sooner ready
    return x * x


def refuse_three(x: int) -> int:
    if x == 3:
        raise DataError(expected="another number", got="3", fix="nothing")
    return x


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.process)])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(map_shards(square, [0, 1, 2, 3, 4], workers)) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.process)])
def test_an_exception_keeps_its_class_and_names_the_item(workers: int) -> None:
    with pytest.raises(DataError, match="another number") as caught:
        list(map_shards(refuse_three, [1, 2, 3, 4], workers))
    assert caught.value.__notes__ == ["while working on 3"]


@pytest.mark.process
def test_a_killed_worker_is_a_machine_error() -> None:
    with pytest.raises(MachineError, match="killed"):
        list(map_shards(die, [1, 2], 2))


SLEEPER = """
import sys, time
from stages.core.shards import map_shards
if __name__ == "__main__":
    sys.path.insert(0, {here!r})
    from test_shards import announce
    for _ in map_shards(announce, [{folder!r}] * 2, 2): pass
"""


def announce(folder: str) -> None:
    """Write the own process id, then work for a minute."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


@pytest.mark.process
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_a_stopped_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER.format(here=str(Path(__file__).parent), folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    workers = _wait_for(lambda: [int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()], 2)
    parent.send_signal(how)
    parent.wait(timeout=90)
    _wait_for(lambda: [pid for pid in workers if not _alive(pid)], 2)


def _wait_for(look, count: int) -> list[int]:  # type: ignore[no-untyped-def]
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        if len(found := look()) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited 60 s for {count}, got {look()}")


def _alive(pid: int) -> bool:
    """Running, and no zombie that its new parent has yet to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def slurm(task: int, low: int, high: int, step: int = 1, count: int | None = None) -> dict[str, str]:
    values = {"ID": task, "MIN": low, "MAX": high, "STEP": step, "COUNT": count or (high - low) // step + 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize("n", [1, 3, 12])
def test_the_shares_are_disjoint_and_hold_everything(n: int) -> None:
    shares = [share_of(ITEMS, f"{i}/{n}") for i in range(n)]
    assert sorted(item for share in shares for item in share) == ITEMS


@pytest.mark.parametrize(("low", "high", "step"), [(0, 3, 1), (1, 4, 1), (2, 10, 4)])
def test_an_array_of_slurm_may_count_from_anywhere(low: int, high: int, step: int) -> None:
    shares = [share_of(ITEMS, "slurm", slurm(task, low, high, step)) for task in range(low, high + 1, step)]
    assert sorted(item for share in shares for item in share) == ITEMS


@pytest.mark.parametrize("text", ["3/3", "1", "-1/2", "a/b", "1/0", ""])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match="i from 0 to n - 1"):
        share_of(ITEMS, text)


def test_an_array_with_gaps_and_no_array_are_refused() -> None:
    with pytest.raises(ParamsError, match="submit the whole array again"):
        share_of(ITEMS, "slurm", slurm(7, 3, 7, count=2))
    with pytest.raises(ParamsError, match="sbatch --array"):
        share_of(ITEMS, "slurm", {})


def test_workers_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert [turn_of(f"SpawnProcess-{i}", 2) for i in (1, 2, 3, 4)] == [0, 1, 0, 1]
    assert turn_of("MainProcess", 8) == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == "cpu"
