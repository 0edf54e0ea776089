"""Mask prediction (Table 2 of the paper): ReconPruner's network, trained to tell foreground tokens from the others.

Same layer, same query, same scorer; only what it was trained for differs, which its config.json says.
"""

from dataclasses import dataclass
from typing import ClassVar

from stages.pruning import recon


@dataclass(frozen=True)
class Pruner(recon.Pruner):
    """A ReconPruner whose config.json says that it was trained by mask prediction. Raises DataError for another."""

    method: ClassVar[str] = "mask_prediction"
