"""Whether the machine has the room and the memory that the stale stages want."""

from collections.abc import Sequence

from stages.errors import InputError
from stages.outlook.machine import Machine
from stages.outlook.rows import Row


class DoesNotFitError(InputError):
    """The disk or the memory is too small for what is to be run."""

    exit_code = 3


def require_fit(rows: Sequence[Row], here: Machine) -> None:
    """Raise DoesNotFitError for the disk or for the stage that wants most memory, guesses included."""
    room = sum(row.disk_bytes or 0 for row in rows)
    if room > here.disk_free_bytes:
        most = max(rows, key=lambda row: row.disk_bytes or 0)
        raise DoesNotFitError(
            wanted=f"{size(room)} on the disk for all stale stages ({size(most.disk_bytes or 0)} of it for {most.stage})",
            came=f"{size(here.disk_free_bytes)} free",
            then="free some (`dvc gc --workspace` drops what no checkout here needs), then `fastdrive plan`",
        )
    for row in rows:
        on_gpu = bool(row.gpu_hours and here.gpus)
        there = here.gpu_memory_bytes if on_gpu else here.memory_bytes
        if row.memory_bytes and row.memory_bytes > there:
            whose = "a GPU here" if on_gpu else "this machine" + (" (no GPU here)" if row.gpu_hours else "")
            knob = "train_pruner.batch_size" if row.stage.startswith("train_pruner") else "plan_routes.batch_size"
            knob = knob if row.stage.startswith(("train_pruner", "plan_")) else "its workers"
            raise DoesNotFitError(
                wanted=f"{size(row.memory_bytes)} of memory for {row.stage}{' (a guess)' if row.memory_guess else ''}",
                came=f"{size(there)} of {whose}",
                then=f"lower {knob} in params.yaml or take a larger machine, then `fastdrive plan`",
            )


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit, each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= each:
            return f"{count / each:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
