"""map_shards: order, named errors, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core.errors import DataError, MachineError
from stages.core.shards import map_shards

ROOT = Path(__file__).parents[2]


def square(x: int) -> int:
    time.sleep(0.02 * (5 - x))  # the later, the sooner ready
    return x * x


def pid_of(_: int) -> int:
    return os.getpid()


def refuse_three(x: int) -> int:
    if x == 3:
        raise DataError(expected="another number", got="3", fix="nothing")
    return x


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(map_shards(square, [0, 1, 2, 3, 4], workers)) == [0, 1, 4, 9, 16]


def test_one_worker_is_this_process_and_two_are_others() -> None:
    assert set(map_shards(pid_of, range(3), 1)) == {os.getpid()}
    assert os.getpid() not in set(map_shards(pid_of, range(3), 2))


def test_no_items_give_no_results() -> None:
    assert list(map_shards(square, [], 2)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_keeps_its_class_and_names_the_item(workers: int) -> None:
    with pytest.raises(DataError, match="another number") as caught:
        list(map_shards(refuse_three, [1, 2, 3, 4], workers))
    assert caught.value.__notes__ == ["while working on 3"]


def test_a_killed_worker_is_a_machine_error() -> None:
    with pytest.raises(MachineError, match="killed"):
        list(map_shards(die, [1, 2], 2))


SLEEPER = """
import sys, time
from stages.core.shards import map_shards
if __name__ == "__main__":
    sys.path.insert(0, {here!r})
    from test_map_shards import announce
    for _ in map_shards(announce, [{folder!r}] * 2, 2): pass
"""


def announce(folder: str) -> None:
    """Write the own process id, then work for a minute."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


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
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        if len(found := look()) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited 30 s for {count}, got {look()}")


def _alive(pid: int) -> bool:
    """Running, and no zombie that its new parent has yet to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
