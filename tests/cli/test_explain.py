"""`fastdrive explain`: what a key is, and what runs again when it changes."""

from pathlib import Path

import pytest
from dvc_checkout import dvc_checkout

from stages.cli.explain_key import find, reruns
from stages.core.errors import ParamsError
from stages.core.params import read_params

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pygtrie, in DVC
PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")


@pytest.mark.parametrize(
    ("name", "kind", "meaning"),
    [
        ("train_pruner.alpha", "float, >= 0, <= 1", "Eq. 8"),
        ("vla.fit", "one of ", ""),
        ("pruners.fastv.layer", "int", ""),
        ("scenes", "section with root", ""),
    ],
)
def test_a_key_has_type_bounds_and_the_comment_of_the_code(name: str, kind: str, meaning: str) -> None:
    key = find(PARAMS, name)
    assert key.kind.startswith(kind)
    assert meaning in key.meaning


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ParamsError, match="train_pruner.alpha"):
        find(PARAMS, "train_pruner.alfa")


@pytest.mark.parametrize(
    ("key", "direct", "after"),
    [
        ("options.b.x", ["plan@b"], ["report"]),
        ("options", ["plan"], ["report"]),
    ],
)
def test_a_change_runs_the_cells_that_read_it_and_what_reads_their_outputs(
    key: str, direct: list[str], after: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert reruns(tmp_path, key) == (direct, after)
