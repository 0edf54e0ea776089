"""`fastdrive plan` and `fastdrive explain`: stale stages with their reasons; keys, and what runs again for them."""

from pathlib import Path

import pytest
from dvc_checkout import PARAMS, dvc_checkout
from yaml import safe_dump

from stages.cli.plan import duration, find, make_plan, reruns, summary, table
from stages.core.errors import DataError, ParamsError
from stages.core.params import read_params

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of pygtrie, in DVC


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose stages have run."""
    root = tmp_path_factory.mktemp("plan")
    dvc_checkout(root, run=True)
    return root


@pytest.fixture
def checkout(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished checkout as the working directory, its params as they were."""
    (finished / "params.yaml").write_text(safe_dump(PARAMS))
    monkeypatch.chdir(finished)
    return finished


def test_when_nothing_changed_the_plan_is_one_line(checkout: Path) -> None:
    plan = make_plan(checkout, [])
    assert plan["stale"] == []
    assert table(plan) == "4 stages, all up to date"


def test_a_changed_param_is_shown_with_both_values_and_makes_later_stages_stale(checkout: Path) -> None:
    (checkout / "params.yaml").write_text(safe_dump(PARAMS | {"options": {"a": {"x": 1}, "b": {"x": 5}}}))
    plan = make_plan(checkout, [])
    assert {row["stage"]: row["why"] for row in plan["stale"]} == {
        "plan@b": "options.b.x 2 -> 5",
        "report": "after plan@b",
    }
    assert "1 of 2 stages are stale" in table(make_plan(checkout, ["plan@b"]))
    assert "1 of 3 stages are stale" in table(make_plan(checkout, ["plan"]))


def test_an_edited_output_and_a_stage_without_lock_are_named(checkout: Path) -> None:
    kept = (checkout / "dvc.lock").read_text()
    (checkout / "page").write_text("edited")
    assert [row["why"] for row in make_plan(checkout, ["report"])["stale"]] == ["page modified"]
    (checkout / "dvc.lock").unlink()
    assert {row["why"] for row in make_plan(checkout, [])["stale"]} == {"never ran"}
    (checkout / "dvc.lock").write_text(kept)
    (checkout / "page").write_text("1\n1\n")


def test_an_unknown_stage_is_refused_with_the_nearest_name_and_damage_with_a_command(checkout: Path) -> None:
    with pytest.raises(ParamsError, match="fastdrive plan report"):
        make_plan(checkout, ["reprot"])
    kept = (checkout / "dvc.yaml").read_text()
    (checkout / "dvc.yaml").write_text("stages: [")
    with pytest.raises(DataError, match="dvc status"):
        make_plan(checkout, [])
    (checkout / "dvc.yaml").write_text(kept)


def test_the_last_duration_stands_beside_each_stage() -> None:
    rows = [
        {"stage": "make", "why": "never ran", "last_seconds": None},
        {"stage": "plan@a", "why": "seed 1 -> 2", "last_seconds": 150.0},
    ]
    plan = {"stale": rows, "stages": 4, "names": [], "memory_free_bytes": int(8e9), "disk_free_bytes": 0}
    assert "2.5 min" in table(plan)
    assert "8 GB of memory" in table(plan)
    assert [duration(seconds) for seconds in (None, 3.0, 7200.0)] == ["-", "3 s", "2.0 h"]
    assert summary(plan | {"stale": rows[:1]}).startswith("1 of 4 stages are stale, none ran here before")


def test_a_key_has_type_bounds_and_the_comment_of_the_code() -> None:
    params = read_params(Path(__file__).parents[2] / "params.yaml")
    for name, kind, meaning in (
        ("train_pruner.alpha", "number, maximum 1, minimum 0", "Eq. 8"),
        ("vla.fit", "one of stretch", ""),
        ("grid.percents", "array of (integer, exclusiveMaximum 100, minimum 1)", "percent removed"),
        ("scenes.oracle_root", "string or null", ""),
        ("pruners.fastv.layer", "int", ""),
        ("scenes", "section with root", ""),
    ):
        _, shown, comment = find(params, name)
        assert shown.startswith(kind)
        assert meaning in comment
    with pytest.raises(ParamsError, match="train_pruner.alpha"):
        find(params, "train_pruner.alfa")


def test_a_change_runs_the_cells_that_read_it_and_what_reads_their_outputs(checkout: Path) -> None:
    assert reruns(checkout, "options.b.x") == (["plan@b"], ["report"])
    assert reruns(checkout, "options") == (["plan"], ["report"])
