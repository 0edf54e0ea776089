"""dvc.yaml as DVC expands it."""

from pathlib import Path

import pytest
from small_graph import PARAMS, STAGES

from stages.core.errors import DataError
from stages.core.journal.graph import expanded, following, inputs, read_graph, with_inputs

GRAPH = {stage.name: stage for stage in expanded(STAGES, PARAMS)}
ROOT = Path(__file__).parents[2]


def test_cells_of_a_matrix_are_stages_with_their_own_paths() -> None:
    assert list(GRAPH) == [
        *("make_world", "generate_masks", "train_pruner@recon", "train_pruner@other"),
        *("plan_trained@recon", "plan_trained@other", "make_report"),
    ]
    assert GRAPH["plan_trained@other"].deps == ("models/other",)
    assert GRAPH["plan_trained@other"].module == "stages.plan_routes"
    assert GRAPH["generate_masks"].deps[0] == "data/world/v1"
    assert GRAPH["generate_masks"].outs == ("data/masks", "metrics/masks.json")


def test_a_stage_reads_from_those_whose_outs_hold_or_lie_in_its_deps() -> None:
    assert inputs(GRAPH)["generate_masks"] == ["make_world"]
    assert inputs(GRAPH)["plan_trained@recon"] == ["train_pruner@recon"]
    assert inputs(GRAPH)["make_report"] == ["plan_trained@recon", "plan_trained@other"]
    assert with_inputs(GRAPH, {"train_pruner@recon"}) == {"make_world", "generate_masks", "train_pruner@recon"}


def test_what_follows_a_stage_is_the_first_that_reads_it() -> None:
    assert following(GRAPH, "generate_masks") == "train_pruner@recon"
    assert following(GRAPH, "train_pruner@other") == "plan_trained@other"
    assert following(GRAPH, "make_report") is None


def test_the_graph_of_the_repository_has_every_stage_of_its_lock() -> None:
    from stages.core.provenance import locked

    assert set(locked(ROOT)) <= set(read_graph(ROOT))


def test_a_graph_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("grid: {}\n")
    (tmp_path / "dvc.yaml").write_text('stages: {a: {cmd: x, matrix: {p: "${grid.nope}"}}}\n')
    with pytest.raises(DataError, match="nope"):
        read_graph(tmp_path)
