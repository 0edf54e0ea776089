"""The vision tower as the pipeline runs it: stock modules and weights, few attention calls, watched on demand."""

from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

from stages.backbone.importance import VisionFacts, batched
from stages.backbone.qwen import VisionTower, load_model
from stages.backbone.vision import Watch, grouped


class FastTower(VisionTower):
    """`VisionTower` with windows of equal length in one attention call; the same bits."""

    def encode(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """Visual tokens in reading order."""
        with grouped(self._visual):
            return super().encode(images)

    def encode_watched(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], VisionFacts]:
        """Visual tokens, and what the tower knows of each."""
        with Watch(self._visual) as watch:
            tokens = self.encode(images)
        return tokens, batched(watch.of_images())


def load_vision(checkpoint: Path) -> FastTower:
    """The frozen tower of a local checkpoint folder."""
    return FastTower(load_model(checkpoint))
