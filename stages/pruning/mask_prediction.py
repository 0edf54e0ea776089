"""Mask prediction (Table 2 of the paper): ReconPruner's network, trained to tell foreground tokens from the others.

Same layer, same query, same scorer; only what it was trained for differs, which its config.json says.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.errors import DataError
from stages.pruning import recon
from stages.registry import checkpoint

OBJECTIVE = "mask_prediction"


def build(config: dict[str, Any]) -> recon.ReconPruner:
    """`recon.build`. Raises DataError when the weights were trained for anything but mask prediction."""
    if config.get("objective") != OBJECTIVE:
        raise DataError(
            wanted=f'"objective": "{OBJECTIVE}" in config.json of the checkpoint',
            came=repr(config.get("objective")),
            then=f"train one with train_pruner.objective {OBJECTIVE}, or use the pruner recon",
        )
    return recon.build(config)


@dataclass(frozen=True)
class Pruner(recon.Pruner):
    """A ReconPruner trained by mask prediction, from the folder that train_pruner writes."""

    @cached_property
    def _trained(self) -> tuple[recon.ReconPruner, str]:
        module, config = checkpoint.load(Path(self.checkpoint), build, recon.MADE_BY)
        return module.eval().requires_grad_(False), config["encoder"]
