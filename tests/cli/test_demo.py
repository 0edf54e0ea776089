"""`fastdrive demo` on the committed weights: the picture shows what its numbers say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fastdrive
from stages import cli
from stages.backbone.qwen import encoder_fingerprint, load_model
from stages.backbone.tokens import keep_count, top_k_ascending
from stages.cli import demo_weights
from stages.cli.demo_frame import draw_frame
from stages.cli.demo_picture import DRIVER, PRUNER, load_reconstruction
from stages.core.errors import DataError, ParamsError
from stages.planning.omnidrive import BOX_LW_M

N, GRID = 84, (7, 12)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], np.ndarray, dict]:
    """The printed lines, the pixels of the picture, and its numbers."""
    out = tmp_path_factory.mktemp("demo") / "strip.png"
    done = CliRunner().invoke(cli.app(), ["demo", "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return done.output.splitlines(), pixels, json.loads(out.with_suffix(".json").read_text())


def panel(shown: tuple, name: str) -> np.ndarray:
    x0, y0, x1, y1 = shown[2]["panels_px"][name]
    return shown[1][y0:y1, x0:x1]


def middles(picture: np.ndarray) -> np.ndarray:
    """(N, 12, 12, 3) pixels in the middle of each token, where no outline is."""
    H, W, _ = picture.shape
    ys, xs = ((np.arange(n) + 0.5) * side / n for n, side in zip(GRID, (H, W), strict=True))
    return np.stack([picture[int(y) - 6 : int(y) + 6, int(x) - 6 : int(x) + 6] for y in ys for x in xs])


def test_it_prints_the_counts_the_path_and_the_next_command(shown: tuple) -> None:
    counts, path, following = shown[0]
    assert counts.startswith("42 of 84 tokens kept")
    assert path.endswith("strip.png")
    assert "fastdrive prune" in following


@pytest.mark.parametrize("percent", [25, 50, 75])
def test_a_kept_token_has_the_pixels_of_the_camera_and_a_dropped_one_is_dark_grey(shown: tuple, percent: int) -> None:
    camera, drawn = middles(panel(shown, "camera")), middles(panel(shown, f"kept_{percent}"))
    kept = np.array([np.array_equal(a, b) for a, b in zip(camera, drawn, strict=True)])
    assert kept.sum() == keep_count(N, percent)
    assert np.flatnonzero(kept).tolist() == shown[2]["kept"][str(percent)]
    dark = drawn[~kept]
    assert np.ptp(dark, axis=-1).max() <= 1
    assert np.abs(dark.mean() - 0.3 * camera[~kept].mean()) < 2


def test_the_kept_tokens_are_those_with_the_highest_saliency(shown: tuple) -> None:
    import torch

    scores = torch.tensor([shown[2]["scores"]])
    for percent in (25, 50, 75):
        assert top_k_ascending(scores, keep_count(N, percent))[0].tolist() == shown[2]["kept"][str(percent)]
    assert shown[2]["taken_for_foreground"] == int((scores > 0).sum())


def test_the_reconstructions_are_dark_where_the_other_ground_is(shown: tuple) -> None:
    """Each branch learnt to paint black what is not its own."""
    taken = np.array(shown[2]["scores"]) > 0
    for name, own in (("foreground", taken), ("background", ~taken)):
        light = middles(panel(shown, name)).mean(axis=(1, 2, 3))
        assert light[own].mean() > 60
        assert light[~own].mean() < 25


def test_the_mask_is_blue_on_foreground_alone(shown: tuple) -> None:
    camera, mask = panel(shown, "camera"), panel(shown, "mask")
    tinted = (mask != camera).any(axis=-1)
    assert 0.3 < tinted.mean() < 0.6
    assert (mask - camera)[tinted][:, 0].mean() < -40  # red goes


def test_the_plan_is_as_long_as_its_horizon_and_near_the_recorded_path(shown: tuple) -> None:
    assert {len(path) for path in shown[2]["plans_m"].values()} == {6}
    assert max(shown[2]["l2_m"][percent] for percent in ("0", "25", "50")) < 1.0


def test_the_committed_pruner_is_of_the_committed_drivers_encoder_and_small() -> None:
    pruner = fastdrive.load(PRUNER)
    assert pruner._trained[1] == encoder_fingerprint(load_model(DRIVER))
    assert load_reconstruction(PRUNER).decoder is not None
    assert sum(path.stat().st_size for path in PRUNER.rglob("*.*")) < 4.5e6


def test_a_damaged_decoder_is_refused_with_the_command_that_restores_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PRUNER, tmp_path / "demo"))
    weights = folder / "decoder/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match="git checkout models/demo"):
        load_reconstruction(folder)


def test_a_drawn_frame_is_the_same_again_and_its_road_lies_under_the_car(tmp_path: Path) -> None:
    one, other = (draw_frame(6, tmp_path) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    half_length, half_width = (int(side / 2 / 0.1) for side in BOX_LW_M)
    assert one.drivable[500 - half_width : 500 + half_width, 500 : 500 + half_length].all()  # row y, column x
    ahead_m = one.frame.future_ego_m
    cells = (ahead_m / 0.1 + 500).round().astype(int)
    assert one.drivable[cells[:, 1], cells[:, 0]].all()


def test_ratios_that_are_not_shown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="fastdrive demo --percent 50"):
        CliRunner().invoke(cli.app(), ["demo", "--percent", "40"], catch_exceptions=False)


def test_the_maker_writes_what_is_committed_and_refuses_another_encoder(tmp_path: Path) -> None:
    demo_weights.make(PRUNER, PRUNER / "decoder", tmp_path / "again")
    for name in ("model.safetensors", "config.json", "decoder/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (PRUNER / name).read_bytes()
    from saved_pruner import save_pruner
    from tiny import make_tiny_model

    other = save_pruner(tmp_path / "other", make_tiny_model())
    with pytest.raises(DataError, match="encoder"):
        demo_weights.make(other, PRUNER / "decoder", tmp_path / "never")
    assert not (tmp_path / "never").exists()
