"""`fastdrive prune IMAGE`: any image of any size, or one line that says what is wrong with it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stages import cli
from stages.cli.demo_picture import DRIVER, PRUNER
from stages.cli.prune_picture import draw_kept, read_image_file
from stages.core.errors import DataError, ParamsError
from stages.efficiency.flops import model_shape, prompt_flops


def photo(path: Path, size_px: tuple[int, int] = (640, 360), mode: str = "RGB") -> Path:
    """A random picture."""
    values = np.random.default_rng(0).integers(0, 256, (size_px[1], size_px[0], 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


def test_numbers_and_picture_of_an_own_image(tmp_path: Path) -> None:
    words = ["prune", str(photo(tmp_path / "photo.jpg")), "--pruner", str(PRUNER), "--model", str(DRIVER)]
    words += ["--percent", "75", "--out", str(tmp_path / "kept.png")]
    lines = CliRunner().invoke(cli.app(), words, catch_exceptions=False).output.splitlines()
    numbers = json.loads((tmp_path / "kept.json").read_text())
    assert lines[0].startswith("21 of 84 tokens kept; ")
    assert (numbers["tokens"], numbers["tokens_kept"], len(numbers["kept"])) == (84, 21, 21)
    lowest_kept = min(numbers["scores"][i] for i in numbers["kept"])
    assert sorted(numbers["scores"])[-21] == lowest_kept
    assert size_of(tmp_path / "kept.png")[0] == 1440


def test_flops_are_those_of_the_closed_form(tmp_path: Path) -> None:
    numbers = draw_kept(photo(tmp_path / "photo.png"), PRUNER, DRIVER, 50, tmp_path / "kept.png")
    shape = model_shape(json.loads((DRIVER / "config.json").read_text()))
    unpruned = prompt_flops(shape, (7, 12), 84, 100).to_dict()["with_vision"]
    assert numbers["gflops"]["unpruned"] == round(unpruned / 1e9, 3)
    assert numbers["flops_ratio"] == pytest.approx(unpruned / 1e9 / numbers["gflops"]["pruned"], abs=5e-3)


@pytest.mark.parametrize("size_px", [(1, 1), (3000, 20)])
def test_an_image_of_any_shape_gives_a_picture(tmp_path: Path, size_px: tuple[int, int]) -> None:
    numbers = draw_kept(photo(tmp_path / "photo.png", size_px), PRUNER, DRIVER, 50, tmp_path / "kept.png")
    assert numbers["image"]["size_px"] == list(size_px)
    assert size_of(tmp_path / "kept.png")[1] >= 380


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "CMYK"), ("b.png", "P"), ("d.webp", "RGB")])
def test_images_of_other_modes_are_read_as_rgb(tmp_path: Path, name: str, mode: str) -> None:
    assert read_image_file(photo(tmp_path / name, (30, 20), mode)).shape == (20, 30, 3)


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # a quarter to the right
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image_file(tmp_path / "turned.jpg").shape == (30, 20, 3)


def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)  # importing nuscenes raises it
    (tmp_path / "text.jpg").write_text("hello")
    whole = photo(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("I;16", (5, 5)).save(tmp_path / "deep.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    expected = {
        "text.jpg": "another kind of file",
        "cut.jpg": "truncated",
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
        (["photo.png", "--pruner", "no"], DataError, "--pruner models/demo"),
        (["photo.png", "--out", "photo.png"], ParamsError, "not the image itself"),
        (["photo.png", "--out", "kept.json"], ParamsError, "beside it as JSON"),
        (["nofile.jpg"], DataError, "no such file"),
        (["."], DataError, "a folder"),
    ],
)
def test_wrong_words_are_refused_before_torch_is_imported(
    words: list[str], error: type[Exception], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "stages.cli.prune_picture", None)
    before = photo(Path("photo.png")).read_bytes()
    with pytest.raises(error, match=match):
        CliRunner().invoke(cli.app(), ["prune", *words], catch_exceptions=False)
    assert Path("photo.png").read_bytes() == before
