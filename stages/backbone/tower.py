"""The vision tower as the pipeline runs it: stock modules and weights, few attention calls, watched on demand."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stages.backbone.importance import VisionFacts, batched
from stages.backbone.qwen import VisionTower, load_model
from stages.backbone.vision import Watch, grouped


class FastTower(VisionTower):
    """`VisionTower` with windows of equal length in one attention call; the same bits."""

    @property
    def device(self) -> torch.device:
        """Where it runs, and where its tokens are."""
        return next(self._visual.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights and tokens."""
        return next(self._visual.parameters()).dtype

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "FastTower":
        """Move it to `device`, its weights as `dtype` (None: as they are); returns itself.

        Rotary frequencies stay in fp32, as in a model that is loaded in bfloat16: Module.to would round them.
        """
        for parameter in self._visual.parameters():
            parameter.data = parameter.data.to(device, dtype or parameter.dtype)
        for buffer in self._visual.buffers():
            buffer.data = buffer.data.to(device)
        return self

    def encode(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """Visual tokens in reading order, on the tower's device; so is all work on the pixels."""
        handle = self._visual.register_forward_pre_hook(_grid_beside_weights, with_kwargs=True)
        try:
            with grouped(self._visual):
                return super().encode(images.to(self.device, non_blocking=True))
        finally:
            handle.remove()

    def encode_watched(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], VisionFacts]:
        """Visual tokens, and what the tower knows of each."""
        with Watch(self._visual) as watch:
            tokens = self.encode(images)
        return tokens, batched(watch.of_images())


def _grid_beside_weights(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """transformers makes the rotary positions where `grid_thw` is, and multiplies them with frequencies on the GPU."""
    return args, kwargs | {"grid_thw": kwargs["grid_thw"].to(next(module.parameters()).device)}


def load_vision(checkpoint: Path) -> FastTower:
    """The frozen tower of a local checkpoint folder."""
    return FastTower(load_model(checkpoint))
