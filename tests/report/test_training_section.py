"""Every trained pruner on the page, with the pictures that its objective leaves."""

from pathlib import Path

import numpy as np
import pytest
from report_training import write_training

from stages.core.errors import DataError
from stages.core.params import Params, read_params
from stages.planning.tables import cells
from stages.report.inputs import Inputs, read_history
from stages.report.page import Gallery
from stages.report.training import COLUMNS, held_out_rows, painted_parts, training_section, written

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    return read_params(CHECKOUT / "params.yaml")


def trained(params: Params) -> Inputs:
    """What there is to read after training all of the grid."""
    from stages.core.io import read_json

    for name in params.grid.trained:
        write_training(name, params.training(name), 0.9, np.random.default_rng(0))
    names = params.grid.trained
    training = {name: read_json(Path(f"metrics/train_pruner/{name}.json"), "train") for name in names}
    histories = {name: read_history(Path(f"results/training/{name}/history.csv"), "train") for name in names}
    return Inputs([], {}, {}, {}, {}, {}, {}, training, histories)


def test_each_trained_pruner_has_a_row_with_a_dash_where_nothing_is_painted(params: Params) -> None:
    inputs = trained(params)
    rows = {line[0]: line for line in cells(held_out_rows(inputs.training), COLUMNS)}
    assert list(rows) == ["recon", "foreground_only", "mask_prediction"]
    background = list(COLUMNS).index("background")
    assert [rows[name][background] for name in rows] == ["0.1075", "–", "0.1075"]
    assert rows["recon"][-1] == "0.897"  # 0.9 - 0.1 / 40
    assert list(written(inputs)) == ["training"]


def test_the_first_has_all_examples_and_the_others_their_last_pictures(params: Params) -> None:
    galleries = [b for b in training_section(trained(params), params).blocks if isinstance(b, Gallery)]
    assert [(g.title, len(g.pictures), g.across) for g in galleries] == [
        ("recon", 1, 1),
        ("What it rebuilds", 10, 5),
        ("What it keeps", 8, 4),
        ("foreground_only", 1, 1),
        ("", 2, 2),
        ("mask_prediction", 1, 1),
        ("", 1, 1),
    ]
    painted, kept = galleries[4].pictures
    assert painted.caption == "step 40, from the top: image, foreground as target and as painted, background as target"
    assert kept.alt.startswith("foreground_only at step 40, from the top: image, kept at")


def test_a_mask_predictor_may_be_the_main_pruner_and_shows_what_it_keeps(params: Params) -> None:
    mine = params.model_copy(update={"grid": params.grid.model_copy(update={"trained": ["mask_prediction"]})})
    section = training_section(trained(mine), mine)
    assert [b.title for b in section.blocks if isinstance(b, Gallery)] == ["mask_prediction", "What it keeps"]
    assert "painted" not in "".join(block.text for block in section.blocks if block.name == "words")


def test_pictures_that_must_be_there_follow_from_the_objective(params: Params) -> None:
    assert [len(painted_parts(params.training(name))) for name in params.grid.trained] == [5, 3, 0]


@pytest.mark.parametrize(
    ("lacking", "name"),
    [
        ("recon/example_*", "recon"),
        ("recon/example_1_back.png", "recon"),
        ("foreground_only/epochs/reconstruction_*", "foreground_only"),
        ("mask_prediction/epochs/*", "mask_prediction"),
    ],
)
def test_a_lacking_picture_names_the_pruner_to_train(params: Params, lacking: str, name: str) -> None:
    inputs = trained(params)
    for path in list(Path("results/training").glob(lacking)):
        path.unlink()
    with pytest.raises(DataError, match=f"dvc repro train_pruner@{name}"):
        training_section(inputs, params)
