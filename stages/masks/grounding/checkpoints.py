"""Official checkpoints: named by path and sha256, read without running anything that they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.core import io
from stages.core.errors import DataError, ParamsError


@dataclass(frozen=True)
class Source:
    """Where an official checkpoint comes from."""

    file: str
    place: str

    def __str__(self) -> str:
        return f"{self.file} from {self.place}"


def require(path: Path, sha256: str | None, source: Source, key: str) -> str:
    """Return the hash. Raises DataError when the checkpoint is not there, ParamsError when params name no hash.

    `key` is the option of annotators.grounded_sam that names the hash. Reads nothing.
    """
    if not path.is_file():
        raise DataError(expected=f"the checkpoint {path}", got="no such file", fix=f"put {source} there")
    if sha256 is None:
        raise ParamsError(
            expected=f"the sha256 of {path} in annotators.grounded_sam.{key}",
            got="null: no file is trusted by its name",
            fix=f"take {source}, compare what `sha256sum {path}` prints with a source you trust, write it there",
        )
    return sha256


def weights_of(path: Path, sha256: str | None, source: Source, key: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint: those by name, or those as `model`, without the `module.` of data-parallel training.

    Raises as `require`, and DataError when the file cannot be read, has another hash or holds more than tensors.
    """
    wanted, fix = require(path, sha256, source, key), f"put {source} there again"
    try:
        actual = io.sha256(path)
    except OSError as error:
        raise DataError(
            expected=f"a readable checkpoint {path}", got=str(error), fix="let this user read it"
        ) from error
    if actual != wanted:
        expected = f"{path} with sha256 {wanted} (annotators.grounded_sam.{key})"
        raise DataError(expected=expected, got=actual, fix=fix)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: pickle's, zip's, torch's own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(expected=f"nothing but tensors in {path}", got=reason, fix=fix) from error
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(expected=f"tensors by name in {path}", got=type(content).__name__, fix=fix)
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def fill(model: nn.Module, weights: Mapping[str, Tensor], name: str, unused: Sequence[str]) -> nn.Module:
    """The model with these weights, every one of them, and of the weights all but the `unused`. Raises DataError."""
    own = model.state_dict()
    shapes = {key: list(tensor.shape) for key, tensor in own.items()}
    given = {key: list(tensor.shape) for key, tensor in weights.items() if key not in unused}
    odd = sorted(key for key in {*shapes, *given} if shapes.get(key) != given.get(key))
    if odd:
        first = f"{odd[0]}: {given.get(odd[0], 'missing')} instead of {shapes.get(odd[0], 'nothing')}"
        raise DataError(
            expected=f"exactly the weights of {name}",
            got=f"{len(odd)} that differ, first {first}",
            fix="name the checkpoint that belongs to the size in annotators.grounded_sam of params.yaml",
        )
    model.load_state_dict({key: weights[key] for key in own})
    return model
