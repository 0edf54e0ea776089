"""The type of params.yaml's section `train_pruner`, not imported at run time: a bare GPU machine has no pydantic."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.core.params import TrainPruner
else:
    TrainPruner = Any

__all__ = ["TrainPruner"]
