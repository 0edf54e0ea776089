"""Weights that others load: model.safetensors, config.json and the manifest that proves both. No pickle."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from stages.core.errors import DataError
from stages.core.io import check_file, read_json, read_manifest, write_bytes, write_json, write_manifest

WEIGHTS, CONFIG = "model.safetensors", "config.json"
Module = TypeVar("Module", bound=nn.Module)


def save(folder: Path, module: nn.Module, config: Mapping[str, Any]) -> None:
    """Write weights and `config`, the manifest last. Equal weights and config give equal bytes.

    Raises DataError when a weight is NaN or infinite: nothing is written then.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(module.state_dict().items())}
    _check_finite(tensors, "the trained weights", "lower the learning rates in params.yaml")
    write_bytes(folder / WEIGHTS, to_bytes(tensors))
    write_json(folder / CONFIG, dict(config))
    write_manifest(folder, [folder / WEIGHTS, folder / CONFIG], {"kind": type(module).__name__})


def load(folder: Path, build: Callable[[dict[str, Any]], Module], made_by: str) -> tuple[Module, dict[str, Any]]:
    """The module that `build` makes from the config, with the weights of `folder`; and the config.

    Raises DataError when the manifest is missing, a file is not the one it names, the weights are no safetensors, a
    tensor is missing, unknown, of another shape, or not finite. `made_by` is the command that makes them.
    """
    config = read_config(folder, made_by)
    path = check_file(folder, WEIGHTS, made_by)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataError(expected=f"safetensors in {path}", got=str(error), fix=f"run `{made_by}`") from error
    _check_finite(tensors, str(path), f"run `{made_by}`")
    module = build(config)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:  # torch names each tensor that is missing, unknown or of another shape
        got = " ".join(str(error).split())
        raise DataError(expected=f"the tensors of this config in {path}", got=got, fix=f"run `{made_by}`") from error
    return module, config


def read_config(folder: Path, made_by: str) -> dict[str, Any]:
    """What `save` wrote beside the weights. Raises DataError when the manifest is missing or the file is another."""
    read_manifest(folder, made_by)
    return read_json(check_file(folder, CONFIG, made_by), made_by)


def _check_finite(tensors: Mapping[str, Tensor], where: str, then: str) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(expected=f"finite numbers in {where}", got=f"NaN or infinity in {name}", fix=then)
