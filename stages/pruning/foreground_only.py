"""Foreground reconstruction alone (Table 2 of the paper): ReconPruner without the adversarial background branch.

Nothing then pushes a score below 0, so what ranks tokens is by-product (research/embedded.md 3.1).
"""

from dataclasses import dataclass
from typing import ClassVar

from stages.pruning import recon


@dataclass(frozen=True)
class Pruner(recon.Pruner):
    """A ReconPruner whose config.json says that it never had to paint the background. Raises DataError for another."""

    method: ClassVar[str] = "foreground_only"
