"""What names the work folder beside params, tables and code: files that an annotator reads, and the images."""

from dataclasses import replace
from pathlib import Path

import pytest

from stages.core import io
from stages.masks.recipe import Recipe


@pytest.fixture
def grounded(recipe: Recipe, tmp_path: Path) -> Recipe:
    """Of an annotator that looks at images and has a text encoder."""
    for name in ("config.json", "vocab.txt", "pytorch_model.bin"):
        io.write_text(tmp_path / "bert" / name, "{}")
    return replace(recipe, annotator="grounded_sam", options={"text_encoder": "bert"})


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "tokenizer.json"])
def test_another_text_encoder_is_another_folder(grounded: Recipe, name: str) -> None:
    folder = grounded.work_folder()
    assert grounded.work_folder() == folder
    Path("bert", name).write_text("{ }")
    assert grounded.work_folder() != folder


def test_weights_that_nobody_reads_are_the_same_folder(grounded: Recipe) -> None:
    folder = grounded.work_folder()
    Path("bert/pytorch_model.bin").write_text("more")
    assert grounded.work_folder() == folder


def test_an_image_of_another_size_counts_where_images_are_looked_at(grounded: Recipe, recipe: Recipe) -> None:
    folders = grounded.work_folder(), recipe.work_folder()
    image = sorted(Path(recipe.root, "samples/CAM_BACK").iterdir())[0]
    image.write_bytes(image.read_bytes() + b"0")
    assert grounded.work_folder() != folders[0]
    assert recipe.work_folder() == folders[1]


def test_the_manifest_of_a_drawn_world_stands_for_its_images(grounded: Recipe) -> None:
    root = Path(grounded.root)
    io.write_manifest(root, [], {"seed": 1})
    folder = grounded.work_folder()
    io.write_manifest(root, [], {"seed": 2})
    assert grounded.work_folder() != folder
