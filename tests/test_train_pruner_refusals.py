from pathlib import Path

import pytest
from training_workspace import enter, write_params

from stages import train_pruner
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params
from stages.masks import mask_set

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Four steps on 12 images, in a working directory of their own."""
    return enter(tmp_path, monkeypatch)


def test_a_decoder_that_cannot_be_is_told_before_anything_is_encoded(params: Params) -> None:
    with pytest.raises(ParamsError, match="decoder_width"):
        train_pruner.main(write_params(decoder_width=13))
    assert not list(Path("runs").rglob("*.safetensors"))


def test_images_without_masks_stop_it_before_it_trains(params: Params) -> None:
    rows = mask_set.MaskSet().rows
    whole = [{**row, "phrases": [], "boxes": []} for row in rows[:-3]]
    mask_set.publish(Path("work"), mask_set.FOLDER, whole, {})
    with pytest.raises(DataError, match=r"mask.*dvc repro generate_masks"):
        train_pruner.main(params)
    assert not Path("models/recon").exists()


def test_a_missing_driver_is_told_with_the_command(params: Params) -> None:
    Path("models/driver/config.json").unlink()
    with pytest.raises(DataError, match="dvc repro train_driver"):
        train_pruner.main(params)


def test_too_many_held_out_scenes_are_refused(params: Params) -> None:
    with pytest.raises(ParamsError, match="held_out_scenes"):
        train_pruner.main(write_params(held_out_scenes=2))


def test_images_whose_masks_are_of_another_split_stop_it(params: Params) -> None:
    rows = [{**row, "split": "other", "phrases": [], "boxes": []} for row in mask_set.MaskSet().rows]
    mask_set.publish(Path("work"), mask_set.FOLDER, rows, {})
    with pytest.raises(ParamsError, match=r"24 of 24 others \(first: .* split other\)"):
        train_pruner.main(params)
