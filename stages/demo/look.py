"""What driver, pruner and decoder make of one frame, as numbers and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from stages.core.errors import DataError
from stages.pruning import base, checkpoint
from stages.pruning.recon import ReconPruner, build
from stages.scenes.base import Frame
from stages.training.decoder import of_facts
from stages.training.model import Reconstruction
from stages.vla.base import DriverOptions
from stages.vla.toy import Driver

ROOT = Path(__file__).parents[2]
DRIVER, PRUNER = ROOT / "models/driver", ROOT / "models/demo"
DECODER = "decoder"  # inside the pruner's folder
RESTORED_BY = "git checkout models/demo"
METHOD = "recon"


@dataclass(frozen=True)
class Look:
    """All that the strip shows of a frame."""

    grid: tuple[int, int]  # h, w
    scores: Float[np.ndarray, " N"]
    kept: dict[int, Int[np.ndarray, " K"]]  # by prune ratio in percent
    plans_m: dict[int, Float[np.ndarray, "6 2"]]  # by prune ratio, 0 is unpruned
    foreground: int  # tokens that the pruner takes for foreground: S > 0
    fore: Float[np.ndarray, "3 h2 w2"]  # painted from those, in [0, 1]
    back: Float[np.ndarray, "3 h2 w2"]  # painted from the others


@torch.inference_mode()
def look(frame: Frame, percents: Sequence[int]) -> Look:
    """Plan unpruned and at each ratio, score the tokens, paint both grounds. Raises DataError for damaged weights."""
    pruner = base.load(METHOD, {"checkpoint": str(PRUNER)})
    assert isinstance(pruner, base.ScoringPruner)
    size_px, fit = view_of(PRUNER, RESTORED_BY)
    driver = Driver(DriverOptions(DRIVER, size_px, fit, batch_size=1))
    view = driver.view(driver.images([frame]), (frame.token,), driver.ask([frame]))
    plans = {percent: plan for percent, (plan,) in driver.plan([frame], pruner, percents).items()}
    unpruned = driver.plan([frame], base.load("none", {}), [0])[0][0]
    rebuilt = painter(PRUNER)(view.tokens, view.grid)
    assert rebuilt.fore is not None
    assert rebuilt.back is not None
    fore, back = (part[0].clamp(0, 1).numpy() for part in (rebuilt.fore, rebuilt.back))
    return Look(
        view.grid,
        pruner.score(view)[0].numpy(),
        {percent: plan.kept for percent, plan in plans.items()},
        {0: unpruned.waypoints_m} | {percent: plan.waypoints_m for percent, plan in plans.items()},
        int(rebuilt.keep.sum()),
        fore,
        back,
    )


def view_of(folder: Path, made_by: str) -> tuple[tuple[int, int], str]:
    """Size (W, H) in pixels and fit of the images that a pruner was trained on."""
    config = checkpoint.read_config(folder, made_by)
    try:
        width, height = config["view"]["size_px"]
        return (int(width), int(height)), str(config["view"]["fit"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            expected=f"the `view` that {folder} was trained with, in config.json",
            got=repr(error),
            fix=f"run `{made_by}`",
        ) from error


def painter(folder: Path) -> Reconstruction:
    """A pruner with the decoder that it was trained with, from `folder`. Raises DataError for damaged files."""
    pruner: ReconPruner = checkpoint.load(folder, build, RESTORED_BY)[0]
    decoder, facts = checkpoint.load(folder / DECODER, of_facts, RESTORED_BY)
    module = Reconstruction(pruner, decoder, "sigmoid", centred=facts["centred"])
    return module.eval().requires_grad_(False)
