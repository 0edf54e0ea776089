"""Whether the machine has the room and the memory that the stale stages want."""

from collections.abc import Sequence

from stages.core.errors import InputError
from stages.outlook.machine import Machine
from stages.outlook.row import Row


class DoesNotFitError(InputError):
    """The disk or the memory is too small for what is to be run."""

    exit_code = 3


def require_fit(rows: Sequence[Row], here: Machine) -> None:
    """Raise DoesNotFitError for the disk or for the stage that wants most memory, guesses included."""
    room = sum(row.disk_bytes or 0 for row in rows)
    if room > here.disk_free_bytes:
        most = max(rows, key=lambda row: row.disk_bytes or 0)
        raise DoesNotFitError(
            expected=f"{size(room)} on the disk for all stale stages ({most.stage} {size(most.disk_bytes or 0)})",
            got=f"{size(here.disk_free_bytes)} free",
            fix="free some (`dvc gc --workspace` drops what no checkout here needs), then `fastdrive plan`",
        )
    for row in rows:
        there = here.gpu_memory_bytes if row.on_gpu else here.memory_bytes
        if row.memory_bytes and row.memory_bytes > there:
            guess = " (a guess)" if row.memory_guess else ""
            of = "GPU memory" if row.on_gpu else "memory"
            raise DoesNotFitError(
                expected=f"{size(row.memory_bytes)} of {of} for {row.stage}{guess}",
                got=f"{size(there)} on this machine" if there else "no GPU on this machine",
                fix=f"{_remedy(row.stage) if there else 'run it on a machine with one'}, then `fastdrive plan`",
            )


def _remedy(stage: str) -> str:
    knobs = {"train_pruner": "train_pruner.batch_size", "plan_": "plan_routes.batch_size", "profile_": "vla.size_px"}
    knobs |= {name: f"{name}.workers" for name in ("make_world", "generate_masks", "score_plans")}
    knob = next((knob for start, knob in knobs.items() if stage.startswith(start)), None)
    return f"lower {knob} in params.yaml" if knob else "take a larger machine"


def size(count: int | float) -> str:
    """Bytes in the unit that fits."""
    for unit, each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= each:
            return f"{count / each:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
