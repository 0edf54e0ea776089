"""`fastdrive demo` on the committed weights: the picture shows what its numbers say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import fastdrive
from stages import cli
from stages.backbone.tokens import keep_count, top_k_ascending
from stages.backbone.vision import load_vision
from stages.cli.demo_picture import DRIVER, PRUNER, Drawn, Result, draw_frame, load_reconstruction, pictures, run_frame
from stages.core.errors import DataError, ParamsError
from stages.planning.omnidrive import BOX_LW_M

N, GRID = 84, (7, 12)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Drawn, Result, dict[str, np.ndarray]]:
    """The default frame, what the models make of it, and the pixels of each panel."""
    drawn = draw_frame(1, tmp_path_factory.mktemp("demo"))
    result = run_frame(drawn.frame, (25, 50, 75))
    return drawn, result, {name: image.astype(int) for name, (image, _) in pictures(drawn, result).items()}


def middles(picture: np.ndarray) -> np.ndarray:
    """Pixels (N, n, n, 3) in the middle of each token, where no outline is."""
    H, W, _ = picture.shape
    half = min(6, int(H / GRID[0] / 2.5))  # a reconstruction has 7 pixels per token and side
    ys, xs = ((np.arange(n) + 0.5) * side / n for n, side in zip(GRID, (H, W), strict=True))
    return np.stack([picture[int(y) - half : int(y) + half, int(x) - half : int(x) + half] for y in ys for x in xs])


def test_picture_and_numbers_are_written_and_the_next_command_is_named(tmp_path: Path) -> None:
    out = tmp_path / "strip.png"
    done = CliRunner().invoke(cli.app(), ["demo", "--out", str(out)], catch_exceptions=False)
    assert done.output.startswith("42 of 84 tokens kept")
    assert "fastdrive prune" in done.output
    numbers = json.loads(out.with_suffix(".json").read_text())
    assert {percent: len(kept) for percent, kept in numbers["kept"].items()} == {"25": 63, "50": 42, "75": 21}
    assert max(numbers["l2_m"][percent] for percent in ("0", "25", "50")) < 1.0
    with Image.open(out) as picture:
        assert picture.size == (2330, 780)


@pytest.mark.parametrize("percent", [25, 50, 75])
def test_the_tokens_with_the_highest_saliency_keep_their_pixels_and_the_others_are_dark_grey(
    scene: tuple, percent: int
) -> None:
    _, result, panels = scene
    camera, shown = middles(panels["camera"]), middles(panels[f"kept_{percent}"])
    kept = np.array([np.array_equal(a, b) for a, b in zip(camera, shown, strict=True)])
    best = top_k_ascending(torch.tensor(result.scores)[None], keep_count(N, percent))[0].tolist()
    assert np.flatnonzero(kept).tolist() == best
    dark = shown[~kept]
    assert np.ptp(dark, axis=-1).max() <= 1
    assert np.abs(dark.mean() - 0.3 * camera[~kept].mean()) < 2


def test_the_reconstructions_are_dark_where_the_other_ground_is(scene: tuple) -> None:
    """Each branch learnt to paint black what is not its own."""
    _, result, panels = scene
    positive = result.scores > 0
    assert result.foreground == positive.sum()
    for name, own in (("foreground", positive), ("background", ~positive)):
        light = middles(panels[name]).mean(axis=(1, 2, 3))
        assert light[own].mean() > 60
        assert light[~own].mean() < 25


def test_the_committed_pruner_is_of_the_committed_drivers_encoder_and_small() -> None:
    assert fastdrive.load(PRUNER)._trained[1] == load_vision(DRIVER).fingerprint
    assert sum(path.stat().st_size for path in PRUNER.rglob("*.*")) < 4.5e6


def test_a_damaged_decoder_is_refused_with_the_command_that_restores_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PRUNER, tmp_path / "demo"))
    weights = folder / "decoder/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match="git checkout models/demo"):
        load_reconstruction(folder)


def test_a_drawn_frame_is_the_same_again_and_its_road_lies_under_the_car(tmp_path: Path) -> None:
    one, other = (draw_frame(6, tmp_path) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    half_length, half_width = (int(side / 2 / 0.1) for side in BOX_LW_M)
    assert one.drivable[500 - half_width : 500 + half_width, 500 : 500 + half_length].all()  # row y, column x
    cells = (one.frame.future_ego_m / 0.1 + 500).round().astype(int)
    assert one.drivable[cells[:, 1], cells[:, 0]].all()


def test_ratios_that_are_not_shown_are_refused() -> None:
    with pytest.raises(ParamsError, match="--percent 50"):
        CliRunner().invoke(cli.app(), ["demo", "--percent", "40"], catch_exceptions=False)
