"""The picture of `fastdrive prune`: saliency and kept tokens over a user's image, and the FLOPs that they save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.backbone.tokens import keep_count
from stages.backbone.vision import load_vision
from stages.cli.demo_picture import PROMPT_TOKENS, colour_bar, png, show_image, show_saliency, view_of
from stages.core.errors import DataError
from stages.core.io import read_json, sha256, write_bytes, write_json
from stages.efficiency.accounts import account
from stages.efficiency.flops import model_shape
from stages.pruning import base, checkpoint
from stages.pruning.recon import MADE_BY, method_of
from stages.report.figures import STYLE
from stages.report.images import kept_tokens
from stages.scenes.images import resize
from stages.vla.prefill import token_view

WIDEST_PX, NARROWEST_PX = 1280, 112  # of the image in the picture
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def draw_kept(image: Path, folder: Path, model: Path, percent: int, out: Path) -> dict[str, Any]:
    """Write the PNG `out` and its numbers as JSON beside it; return the numbers.

    The tower of `model` sees the image at the size that the pruner in `folder` was trained on. Raises DataError for an
    image or weights that cannot be read or belong to another encoder.
    """
    whole = read_image_file(image)
    method = method_of(checkpoint.read_config(folder, MADE_BY))
    pruner = base.load(method, {"checkpoint": str(folder)})
    assert isinstance(pruner, base.ScoringPruner)  # as all trained ones are
    size_px, fit = view_of(folder, MADE_BY)
    seen = resize(whole, size_px, fit)
    tower = load_vision(model)
    grid = tower.grid(size_px)
    N = grid[0] * grid[1]
    K = keep_count(N, percent)
    with torch.inference_mode():
        tokens = tower.encode(torch.from_numpy(seen).permute(2, 0, 1)[None])
        view = token_view(tokens, (grid,), (0,), (image.name,), tower.fingerprint)
        scores, kept = pruner.score(view)[0].numpy(), pruner.select(view, K).indices[0].numpy()
    shape = model_shape(read_json(model / "config.json", "dvc repro train_driver"))
    unpruned, pruned = account(shape, grid, PROMPT_TOKENS, [percent], pruner)["rows"]
    numbers = {
        "image": {"name": image.name, "size_px": [whole.shape[1], whole.shape[0]], "sha256": sha256(image)},
        "seen_px": list(size_px),
        "grid": list(grid),
        "tokens": N,
        "percent": percent,
        "tokens_kept": K,
        "kept": kept.tolist(),
        "scores": [round(float(score), 4) for score in scores],
        "gflops": {
            name: round(row["flops"]["with_vision"] / 1e9, 3)
            for name, row in (("unpruned", unpruned), ("pruned", pruned))
        },
        "flops_ratio": round(pruned["ratio"]["with_vision"], 3),
    }
    write_bytes(out, _picture(seen if fit == "pad" else whole, scores, kept, grid, numbers))
    write_json(out.with_suffix(".json"), numbers)
    return numbers


def read_image_file(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Return an image as RGB, turned upright by its EXIF tag.

    Raises DataError for a file that is no image, cut short, of 180 megapixels or more, or of over 8 bits a colour.
    """
    fix = "give a JPEG, PNG, WebP or BMP file, as in `fastdrive prune photo.jpg`"
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(expected=f"8 bits a colour in {path}", got=f"mode {image.mode}", fix=fix)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except UnidentifiedImageError as error:
        raise DataError(expected=f"an image in {path}", got="another kind of file", fix=fix) from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(expected=f"a whole image in {path}", got=str(error), fix=fix) from error


def _picture(
    image: UInt8[np.ndarray, "H W 3"],
    scores: Float[np.ndarray, " N"],
    kept: Int[np.ndarray, " K"],
    grid: tuple[int, int],
    numbers: Mapping[str, Any],
) -> bytes:
    """Draw the saliency over the image, and beside it the kept tokens."""
    H, W, _ = image.shape
    width, height = (max(NARROWEST_PX, round(side * WIDEST_PX / max(H, W))) for side in (W, H))
    image, cost = resize(image, (width, height), "stretch"), numbers["gflops"]
    with mpl.rc_context(STYLE | {"font.size": 11}):
        figure = Figure(figsize=(12, max(3.2, min(12.0, 1.4 + 5.9 * height / width))), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        heat = show_saliency(left, image, scores, grid, "saliency of each token")
        show_image(right, kept_tokens(image, kept, grid), "kept tokens; dropped ones are dark")
        colour_bar(figure, heat, ax=[left, right], location="bottom", shrink=0.5, aspect=50)
        figure.suptitle(
            f"{len(kept)} of {len(scores)} tokens kept ({numbers['percent']:g} % pruned);  {cost['unpruned']:.4g} "
            f"\N{RIGHTWARDS ARROW} {cost['pruned']:.4g} GFLOPs with {PROMPT_TOKENS} tokens of text",
            x=0.01,
            ha="left",
        )
        return png(figure)
