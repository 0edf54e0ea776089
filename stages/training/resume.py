"""Where a training run keeps its state: one folder per combination of params, inputs and code, never a DVC output.

A changed learning rate therefore starts anew, and a killed run goes on where its last whole checkpoint stands.
`step_<n>/` holds `pruner/` (what a user may load), `training.safetensors` and `state.json`, its manifest last.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from stages.core import io
from stages.core.errors import DataError, InputError
from stages.pruning import checkpoint
from stages.pruning.recon import ReconPruner
from stages.training import TrainPruner

log = logging.getLogger(__name__)

RUNS = Path("runs/train_pruner")
PRUNER, TENSORS, STATE = "pruner", "training.safetensors", "state.json"
_STAGES = Path(__file__).parents[1]
_CODE = ("training", "backbone", "pruning", "masks", "scenes")  # all that shapes the weights
WITHOUT_EFFECT = {"checkpoint_every_s", "checkpoints_kept", "workers"}  # on the weights


def run_folder(options: TrainPruner, inputs: Sequence[object]) -> Path:
    """The folder for a run with these params on these inputs (names and hashes), by the code as it is now."""
    settings = options.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    code = list(io.code_hashes(*(_STAGES / folder for folder in _CODE)).values())
    code.append(io.sha256(_STAGES / "train_pruner.py"))
    return RUNS / io.fingerprint(settings, list(inputs), code, torch.__version__)


def newest(folder: Path) -> str | None:
    """The tag of the newest whole checkpoint of a run; says on the log whether the run is fresh or resumed, and why."""
    for path in sorted(folder.glob("step_*"), reverse=True):
        if _is_whole(path):
            log.info("train_pruner: resumed at %s of %s (same params, inputs and code)", path.name, folder)
            return path.name
        log.info("train_pruner: %s is not whole (killed while writing it), looking for an older one", path)
    others = [path.name for path in folder.parent.glob("[!.]*") if path != folder]
    why = "params, inputs or code differ from those of " + ", ".join(sorted(others)) if others else "no earlier run"
    log.info("train_pruner: fresh start in %s (%s)", folder, why)
    return None


def _is_whole(path: Path) -> bool:
    try:
        names = io.read_json(path / io.MANIFEST, "")["files"]
        return all(io.check_file(path, name, "").is_file() for name in names)
    except DataError:
        return False


def tag_of(step: int) -> str:
    """The name of the checkpoint after `step` steps."""
    return f"step_{step:07d}"


def save(
    folder: Path, tag: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any], deployable: tuple[ReconPruner, Any]
) -> None:
    """Write a checkpoint; `deployable` is the pruner and its config. Raises MachineError when the disk is full.

    Nothing half-written is left: neither what was begun here, nor an earlier one of the same tag without its manifest.
    """
    path = folder / tag
    shutil.rmtree(path, ignore_errors=True)
    try:
        checkpoint.save(path / PRUNER, *deployable)
        io.write_bytes(path / TENSORS, to_bytes(dict(tensors)))
        io.write_json(path / STATE, dict(state))
        io.write_manifest(path, [file for file in path.rglob("*") if file.is_file()], {})
    except (InputError, OSError):
        shutil.rmtree(path, ignore_errors=True)
        raise


def load(folder: Path, tag: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a whole checkpoint."""
    return load_file(folder / tag / TENSORS), io.read_json(folder / tag / STATE, "")


def drop_old(folder: Path, kept: int, best: str) -> None:
    """Remove all checkpoints but the last `kept` and the `best`; those that are not whole, too."""
    tags = sorted((path.name for path in folder.glob("step_*")), reverse=True)
    whole = [tag for tag in tags if (folder / tag / io.MANIFEST).is_file()]
    for tag in set(tags) - {*whole[:kept], best}:
        (folder / tag / io.MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder / tag)
