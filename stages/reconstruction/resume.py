"""Where a training run keeps its state: one folder per combination of params, inputs and code, never a DVC output.

A changed learning rate therefore starts anew, and a killed run goes on where its last whole checkpoint stands.
"""

import errno
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from stages.errors import DataError, MachineError
from stages.files import MANIFEST, check_file, fingerprint, read_json, sha256, write_manifest
from stages.reconstruction.options import TrainPruner

log = logging.getLogger(__name__)

RUNS = Path("runs/train_pruner")
KEPT = 2  # checkpoints; the older one is there in case the disk lied about the newer
_STAGES = Path(__file__).parents[1]
_CODE = ("reconstruction/*.py", "backbone/*.py", "pruning/recon.py", "tokens.py", "scenes/images.py")


def run_folder(options: TrainPruner, inputs: Sequence[object]) -> Path:
    """The folder for a run with these params on these inputs (names and hashes), by the code as it is now."""
    settings = options.model_dump(mode="json", exclude={"checkpoint_every_s"})
    code = {str(path.relative_to(_STAGES)): sha256(path) for pattern in _CODE for path in sorted(_STAGES.glob(pattern))}
    return RUNS / fingerprint(settings, list(inputs), code, torch.__version__)


def newest(folder: Path) -> str | None:
    """The tag of the newest whole checkpoint of a run; says on the log whether the run is fresh or resumed, and why."""
    for path in sorted(folder.glob("step_*"), reverse=True):
        if _is_whole(path):
            log.info("train_pruner: resumed at %s of %s (same params, inputs and code)", path.name, folder)
            return path.name
        log.info("train_pruner: %s is not whole (killed while writing it), looking for an older one", path)
    others = [path.name for path in folder.parent.glob("*") if path != folder]
    why = "params, inputs or code differ from those of " + ", ".join(sorted(others)) if others else "no earlier run"
    log.info("train_pruner: fresh start in %s (%s)", folder, why)
    return None


def _is_whole(path: Path) -> bool:
    try:
        names = read_json(path / MANIFEST, "")["files"]
        return all(check_file(path, name, "").is_file() for name in names)
    except DataError:
        return False


def tag_of(step: int) -> str:
    """The name of the checkpoint after `step` steps."""
    return f"step_{step:07d}"


def prove(folder: Path, tag: str, world: int) -> None:
    """Mark a checkpoint of `world` ranks as whole, and drop those that it replaces."""
    files = [path for path in (folder / tag).rglob("*") if path.is_file()]
    write_manifest(folder / tag, files, {"world": world})
    for old in sorted(folder.glob("step_*"), reverse=True)[KEPT:]:
        (old / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(old)


def world_of(folder: Path, tag: str) -> int:
    """How many ranks wrote a checkpoint."""
    return int(read_json(folder / tag / MANIFEST, "")["notes"]["world"])


@contextmanager
def room_in(path: Path) -> Iterator[None]:
    """Turn a full disk while a checkpoint is written to `path` into a MachineError; what is half-written is removed."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        if not (getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "PytorchStreamWriter" in str(error)):
            raise
        shutil.rmtree(path, ignore_errors=True)
        raise MachineError(
            wanted=f"room for a checkpoint in {path}",
            came=f"{free_mb:.0f} MB free there",
            then="free some space and run the same command again; it goes on from the checkpoint before",
        ) from error
