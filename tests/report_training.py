"""What train_pruner leaves of a pruner, by its own writer of histories and with pictures of noise."""

from pathlib import Path

import cv2
import numpy as np

from stages.core.io import write_json
from stages.core.params import TrainPruner
from stages.training.evaluation import MEASURED, RANKING, final_figures, write_history

IMAGES = 2


def write_training(name: str, options: TrainPruner, auc: float, rng: np.random.Generator) -> None:
    """History of 40 steps, pictures and figures of `name`, whose AUC ends at `auc`."""
    folder = Path("results/training") / name
    rows = [row for step in range(1, 41) for row in _rows(step, auc, painted_back=options.adversarial)]
    write_history(folder / "history.csv", rows)
    write_json(
        Path(f"metrics/train_pruner/{name}.json"), final_figures(rows, 40) | {"images": 120, "held_out_images": 24}
    )
    pixels = options.objective == "reconstruction"
    branches = [*(["fore"] if pixels else []), *(["back"] if pixels and options.adversarial else [])]
    for part in ("image", "target_fore", "target_back", *branches, "kept_25", "kept_50", "kept_75"):
        for i in range(IMAGES):
            _noise(folder / f"example_{i}_{part}.png", 1, 1, rng)
    for step in (0, 40):
        for kind, high in (("kept_tokens", 4), *([("reconstruction", 5)] if pixels else [])):
            _noise(folder / "epochs" / f"{kind}_{step:07d}.png", high, IMAGES, rng)


def _rows(step: int, auc: float, *, painted_back: bool) -> list[dict[str, float | str | None]]:
    measured = dict.fromkeys(MEASURED, 0.1 + 0.3 / step) | ({} if painted_back else {"loss_back": None})
    ranked = dict.fromkeys(RANKING, auc - 0.1 / step) | {"auc_row_prior": 0.99}
    train = {"step": step, "split": "train", **measured}
    return [train, {"step": step, "split": "held_out", **measured, **ranked}] if step % 10 == 0 else [train]


def _noise(path: Path, high: int, wide: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rng.integers(0, 255, (28 * high, 48 * wide, 3), np.uint8))
