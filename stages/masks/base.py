"""What is foreground: the contract of an annotator. One annotator, one file; file name = params key.

Foreground (paper, section "nuScenes-FG"): humans, roads, vehicles, traffic signs with traffic lights, traffic barriers.
In every mask of this project True is foreground.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.scenes.base import Camera, Frame

CLASSES = ("road", "vehicle", "human", "sign", "barrier")  # class i of a class map is CLASSES[i - 1]; 0 is background


@dataclass(frozen=True)
class Mask:
    """The annotation of one image."""

    foreground: NDArray[np.bool_]  # (H, W), True is foreground
    phrases: tuple[str, ...]  # what was found, one per box
    boxes_xyxy: NDArray[np.float32]  # (M, 4) pixels


class Annotator(Protocol):
    """Turns one camera image of a key frame into a mask. Deterministic."""

    def annotate(self, frame: Frame, camera: Camera) -> Mask: ...
