"""Official checkpoints: named by path and sha256, read once without running what they hold, then kept as safetensors.

Beside `x.pth` come `x.<first of its sha256>.safetensors` and a note, written last, with the hashes of both; where its
folder cannot be written, as on a share of the whole cluster, both come into `CACHE`. Later loads read those two only.
"""

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from stages.core import io
from stages.core.errors import DataError, MachineError, ParamsError

CACHE = Path("runs/checkpoints")
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where an official checkpoint comes from."""

    file: str
    place: str

    def __str__(self) -> str:
        return f"{self.file} from {self.place}"


def weights_of(path: Path, sha256: str | None, source: Source, key: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint; `key` is the option of annotators.grounded_sam that names the hash.

    Raises ParamsError when no hash is named, DataError when the file is missing, cannot be read, has another hash or
    holds more than tensors, MachineError when neither its folder nor `CACHE` can be written.
    """
    sha256 = _named(path, sha256, source, key)
    kept = next((place for place in places(path, sha256) if _whole(place, sha256)), None)
    return load_file(kept or _converted(path, sha256, source, key))


def places(path: Path, sha256: str) -> tuple[Path, Path]:
    """Where the tensors of a checkpoint are kept: beside it, else, where that folder cannot be written, in `CACHE`."""
    name = f"{path.stem}.{sha256[:16]}.safetensors"
    return path.with_name(name), CACHE / name


def require(path: Path, sha256: str | None, source: Source, key: str) -> None:
    """Raises DataError when neither the checkpoint nor what was made of it is there, ParamsError when no hash is named.

    Reads nothing.
    """
    if sha256 is None or not any(place.is_file() for place in places(path, sha256)):
        _require(path, source)
    _named(path, sha256, source, key)


def fill(model: nn.Module, weights: Mapping[str, Tensor], name: str, unused: Sequence[str]) -> nn.Module:
    """The model with these weights, every one of them, and of the weights all but the `unused`. Raises DataError."""
    own = model.state_dict()
    shapes = {key: list(tensor.shape) for key, tensor in own.items()}
    came = {key: list(tensor.shape) for key, tensor in weights.items() if key not in unused}
    odd = sorted(key for key in {*shapes, *came} if shapes.get(key) != came.get(key))
    if odd:
        first = f"{odd[0]}: {came.get(odd[0], 'missing')} instead of {shapes.get(odd[0], 'nothing')}"
        raise DataError(
            expected=f"exactly the weights of {name}",
            got=f"{len(odd)} that differ, first {first}",
            fix="name the checkpoint that belongs to the size in annotators.grounded_sam of params.yaml",
        )
    model.load_state_dict({key: weights[key] for key in own})
    return model


def _require(path: Path, source: Source) -> None:
    if not path.is_file():
        raise DataError(expected=f"the checkpoint {path}", got="no such file", fix=f"put {source} there")


def _named(path: Path, sha256: str | None, source: Source, key: str) -> str:
    if sha256 is None:
        raise ParamsError(
            expected=f"the sha256 of {path} in annotators.grounded_sam.{key}",
            got="null: no file is trusted by its name",
            fix=f"take {source}, compare what `sha256sum {path}` prints with a source you trust, write it there",
        )
    return sha256


def _whole(kept: Path, sha256: str) -> bool:
    """Whether `kept` is what was made of the checkpoint with this hash, to the last bit."""
    try:
        said = io.read_json(_note(kept), "dvc repro generate_masks")
        return bool(said == {"made_of_sha256": sha256, "sha256": io.sha256(kept)})
    except (DataError, OSError):  # none, or a damaged one
        return False


def _note(kept: Path) -> Path:
    return kept.with_suffix(".json")


def _converted(path: Path, sha256: str, source: Source, key: str) -> Path:
    """Make the tensors' file in the first place that can be written."""
    _require(path, source)
    for kept in places(path, sha256):
        try:
            with io.alone(kept.with_name(f".{path.name}.lock"), f"convert {path}"):
                if not _whole(kept, sha256):  # another process may have done it meanwhile
                    _convert(path, sha256, source, key, kept)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            log.info("%s cannot be written (%s)", kept.parent, error.strerror)
        else:
            return kept
    raise MachineError(
        expected=f"to keep the tensors of {path} as safetensors beside it or in {CACHE}",
        got="neither folder can be written",
        fix=f"make {CACHE} writable",
    )


def _convert(path: Path, sha256: str, source: Source, key: str, kept: Path) -> None:
    try:
        found = io.sha256(path)
    except OSError as error:
        then = "let this user read it"
        raise DataError(expected=f"to read the checkpoint {path}", got=str(error), fix=then) from error
    if found != sha256:
        raise DataError(
            expected=f"{path} with sha256 {sha256} (annotators.grounded_sam.{key})",
            got=found,
            fix=f"put {source} there again",
        )
    io.write_bytes(kept, to_bytes(_tensors(path, source)))
    io.write_json(_note(kept), {"made_of_sha256": sha256, "sha256": io.sha256(kept)})
    log.info("%s: kept as %s", path, kept)


def _tensors(path: Path, source: Source) -> dict[str, Tensor]:
    """What a .pth holds, read without running it. Raises DataError unless it is tensors by name, or those as `model`.

    Names lose a `module.` that data-parallel training left; each tensor gets memory of its own, for safetensors.
    """
    then = f"put {source} there again"
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: pickle's, zip's, torch's own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(expected=f"nothing but tensors in {path}", got=reason, fix=then) from error
    held = held.get("model", held) if isinstance(held, dict) else held
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise DataError(expected=f"tensors by name in {path}", got=type(held).__name__, fix=then)
    return {str(name).removeprefix("module."): tensor.clone().contiguous() for name, tensor in held.items()}
