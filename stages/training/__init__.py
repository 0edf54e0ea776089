"""Training of ReconPruner by reconstruction, with DeepSpeed; used in training only.

The paper's mathematics: `losses` (Eq. 3-5, 7-8), `decoder` (Eq. 6), `model`. Then `trainer` (the loop), `resume` (its
checkpoints), `engine` (processes, DeepSpeed), `data` and `loading` (images and masks), `token_cache`, `evaluation`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.core.params import TrainPruner
else:
    TrainPruner = Any  # a bare GPU machine has no pydantic

__all__ = ["TrainPruner"]
