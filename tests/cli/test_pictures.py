"""`fastdrive demo` on the committed weights, `fastdrive prune` on any image: pictures show what their numbers say."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLConfig
from typer.testing import CliRunner

import fastdrive
from stages import cli
from stages.backbone.qwen import load_model
from stages.backbone.tokens import keep_count, top_k_ascending
from stages.backbone.vision import FastTower
from stages.cli.pictures import DRIVER, PRUNER, Demo, draw_kept, load_reconstruction, make_demo, read_image_file
from stages.core.errors import DataError, ParamsError
from stages.efficiency.flops import prompt_flops
from stages.planning.omnidrive import BOX_LW_M
from stages.pruning import checkpoint

pytestmark = pytest.mark.process

N, GRID = 84, (7, 12)


@pytest.fixture(scope="module")
def scene() -> tuple[Demo, dict[str, np.ndarray]]:
    """The default demo and the pixels of each panel."""
    demo = make_demo(1, (25, 50, 75))
    return demo, {name: image.astype(int) for name, (image, _) in demo.panels.items()}


def middles(picture: np.ndarray) -> np.ndarray:
    """Pixels (N, n, n, 3) in the middle of each token, where no outline is."""
    H, W, _ = picture.shape
    half = min(6, int(H / GRID[0] / 2.5))  # a reconstruction has 7 pixels per token and side
    ys, xs = ((np.arange(n) + 0.5) * side / n for n, side in zip(GRID, (H, W), strict=True))
    return np.stack([picture[int(y) - half : int(y) + half, int(x) - half : int(x) + half] for y in ys for x in xs])


def test_the_demo_writes_picture_and_numbers_and_names_the_next_command(tmp_path: Path) -> None:
    out = tmp_path / "strip.png"
    done = CliRunner().invoke(cli.app(), ["demo", "--out", str(out)], catch_exceptions=False)
    assert done.output.startswith("42 of 84 tokens kept")
    assert "fastdrive prune" in done.output
    numbers = json.loads(out.with_suffix(".json").read_text())
    assert {percent: len(kept) for percent, kept in numbers["kept"].items()} == {"25": 63, "50": 42, "75": 21}
    assert max(numbers["l2_m"][percent] for percent in ("0", "25", "50")) < 1.0
    with Image.open(out) as picture:
        assert picture.size == (2330, 780)


def test_the_tokens_with_the_highest_saliency_keep_their_pixels_and_the_others_are_dark_grey(scene: tuple) -> None:
    demo, panels = scene
    for percent in (25, 50, 75):
        camera, shown = middles(panels["camera"]), middles(panels[f"kept_{percent}"])
        kept = np.array([np.array_equal(a, b) for a, b in zip(camera, shown, strict=True)])
        best = top_k_ascending(torch.tensor(demo.scores)[None], keep_count(N, percent))[0].tolist()
        assert np.flatnonzero(kept).tolist() == best
        dark = shown[~kept]
        assert np.ptp(dark, axis=-1).max() <= 1
        assert np.abs(dark.mean() - 0.3 * camera[~kept].mean()) < 2


def test_the_reconstructions_are_dark_where_the_other_ground_is(scene: tuple) -> None:
    """Each branch learnt to paint black what is not its own."""
    demo, panels = scene
    positive = demo.scores > 0
    assert demo.numbers["taken_for_foreground"] == positive.sum()
    for name, own in (("foreground", positive), ("background", ~positive)):
        light = middles(panels[name]).mean(axis=(1, 2, 3))
        assert light[own].mean() > 60
        assert light[~own].mean() < 25


def test_the_committed_pruner_is_of_the_committed_drivers_encoder_and_small() -> None:
    assert fastdrive.load(PRUNER)._trained[1] == FastTower(load_model(DRIVER)).fingerprint
    assert sum(path.stat().st_size for path in PRUNER.rglob("*.*")) < 4.5e6


def test_a_damaged_decoder_is_refused_with_the_command_that_restores_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PRUNER, tmp_path / "demo"))
    weights = folder / "decoder/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match="git checkout models/demo"):
        load_reconstruction(folder)


def test_the_road_of_a_drawn_frame_lies_under_the_car_and_its_path(scene: tuple) -> None:
    demo, _ = scene
    half_length, half_width = (int(side / 2 / 0.1) for side in BOX_LW_M)
    assert demo.drivable[500 - half_width : 500 + half_width, 500 : 500 + half_length].all()  # row y, column x
    cells = (demo.frame.future_ego_m / 0.1 + 500).round().astype(int)
    assert demo.drivable[cells[:, 1], cells[:, 0]].all()


def photo(path: Path, size_px: tuple[int, int] = (640, 360), mode: str = "RGB") -> Path:
    """A random picture."""
    values = np.random.default_rng(0).integers(0, 256, (size_px[1], size_px[0], 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(path)
    return path


def test_prune_writes_a_picture_and_numbers_with_the_flops_of_the_closed_form(tmp_path: Path) -> None:
    words = ["prune", str(photo(tmp_path / "photo.jpg")), "--pruner", str(PRUNER), "--model", str(DRIVER)]
    words += ["--percent", "75", "--out", str(tmp_path / "kept.png")]
    lines = CliRunner().invoke(cli.app(), words, catch_exceptions=False).output.splitlines()
    numbers = json.loads((tmp_path / "kept.json").read_text())
    assert lines[0].startswith("21 of 84 tokens kept; ")
    assert (numbers["tokens"], numbers["tokens_kept"], len(numbers["kept"])) == (84, 21, 21)
    lowest_kept = min(numbers["scores"][i] for i in numbers["kept"])
    assert sorted(numbers["scores"])[-21] == lowest_kept
    with Image.open(tmp_path / "kept.png") as picture:
        assert picture.width == 1440
    config = Qwen2_5_VLConfig(**json.loads((DRIVER / "config.json").read_text()))
    unpruned = prompt_flops(config, GRID, N, 100)["with_vision"]
    assert numbers["gflops"]["unpruned"] == round(unpruned / 1e9, 3)
    assert numbers["flops_ratio"] == pytest.approx(unpruned / 1e9 / numbers["gflops"]["pruned"], abs=5e-3)


def test_a_pruner_that_does_not_say_what_it_was_trained_on_is_refused(tmp_path: Path) -> None:
    config = dict(checkpoint.read_config(PRUNER, ""))
    del config["view"]
    checkpoint.save(tmp_path / "own", load_reconstruction(PRUNER).pruner, config)
    with pytest.raises(DataError, match=r"`view`.*To fix: run `dvc repro"):
        draw_kept(photo(tmp_path / "photo.png"), tmp_path / "own", DRIVER, 50, tmp_path / "kept.png")


def test_an_image_of_an_extreme_shape_gives_a_picture(tmp_path: Path) -> None:
    numbers = draw_kept(photo(tmp_path / "photo.png", (3000, 20)), PRUNER, DRIVER, 50, tmp_path / "kept.png")
    assert numbers["image"]["size_px"] == [3000, 20]
    with Image.open(tmp_path / "kept.png") as picture:
        assert picture.height >= 380


def test_images_of_other_modes_are_read_as_rgb_and_turned_as_the_camera_says(tmp_path: Path) -> None:
    for name, mode in (("a.jpg", "CMYK"), ("b.png", "P"), ("c.webp", "RGB")):
        assert read_image_file(photo(tmp_path / name, (30, 20), mode)).shape == (20, 30, 3)
    exif = Image.Exif()
    exif[274] = 6  # a quarter to the right
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image_file(tmp_path / "turned.jpg").shape == (30, 20, 3)


def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # importing nuscenes raises it
    (tmp_path / "text.jpg").write_text("hello")
    whole = photo(tmp_path / "whole.jpg", (10, 10)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("I;16", (5, 5)).save(tmp_path / "deep.png")
    Image.new("1", (20, 20)).save(tmp_path / "bomb.png")
    expected = {
        "text.jpg": "cannot identify",
        "cut.jpg": "Truncated",
        "deep.png": "mode I;16",
        "bomb.png": "exceeds limit",
    }
    for name, words in expected.items():
        with pytest.raises(DataError, match="fastdrive prune") as error:
            read_image_file(tmp_path / name)
        assert words in str(error.value), name


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (["demo", "--percent", "40"], ParamsError, "--percent 50"),
        (["prune", "photo.png", "--pruner", "no"], DataError, "--pruner models/demo"),
        (["prune", "photo.png", "--out", "photo.png"], ParamsError, "not the image itself"),
        (["prune", "photo.png", "--out", "kept.json"], ParamsError, "beside it as JSON"),
        (["prune", "nofile.jpg"], DataError, "no such file"),
    ],
)
def test_wrong_words_are_refused_before_torch_is_imported(
    words: list[str], error: type[Exception], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "stages.cli.pictures", None)
    before = photo(Path("photo.png"), (30, 20)).read_bytes()
    with pytest.raises(error, match=match):
        CliRunner().invoke(cli.app(), words, catch_exceptions=False)
    assert Path("photo.png").read_bytes() == before
