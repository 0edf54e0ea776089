"""The exported folder: graphs equal to the pruner at sizes they were not traced with, a card, and all or nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from saved_pruner import save_pruner
from tiny import make_tiny_model

import fastdrive
from stages.cli import export_folder as folder
from stages.cli.export_folder import Run, Scorer
from stages.core.errors import DataError
from stages.core.params import read_params
from stages.pruning import checkpoint
from stages.pruning.recon import ReconPruner, build
from stages.registry import register

pytestmark = pytest.mark.process

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pruner's folder, and what became of it."""
    where = tmp_path_factory.mktemp("export")
    source = save_pruner(where / "recon", make_tiny_model())
    folder.export(source, where / "out", PARAMS)
    return source, where / "out"


def read(source: Path) -> ReconPruner:
    return checkpoint.load(source, build, "")[0].eval().requires_grad_(False)


def test_the_scorer_is_the_pruner_to_the_bit(exported: tuple[Path, Path]) -> None:
    pruner = read(exported[0])
    tokens = torch.randn(3, 35, 24, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Scorer(pruner)(tokens, torch.tensor(7)), pruner(tokens, (5, 7)))


def test_both_graphs_score_any_number_of_images_and_tokens_without_this_project(exported: tuple[Path, Path]) -> None:
    source, out = exported
    program = torch.export.load(out / "scorer.pt2").module()
    session = onnxruntime.InferenceSession(str(out / "scorer.onnx"), providers=["CPUExecutionProvider"])
    assert [value.shape for value in (*session.get_inputs(), *session.get_outputs())] == [
        ["B", "N", 24],
        [],
        ["B", "N"],
    ]
    for B, grid in ((1, (1, 1)), (1, (2, 9)), (5, (11, 13))):
        tokens = torch.randn(B, grid[0] * grid[1], 24, generator=torch.Generator().manual_seed(2))
        expected = read(source)(tokens, grid)
        columns = np.array(grid[1], np.int64)
        (scores,) = session.run(["scores"], {"tokens": tokens.numpy(), "columns": columns})
        assert torch.allclose(program(tokens, torch.tensor(grid[1])), expected, rtol=0, atol=1e-4)
        assert np.abs(scores - expected.numpy()).max() <= 1e-4
    notes = json.loads((out / "manifest.json").read_text())["notes"]["graphs"]
    assert [row["tokens"] for row in notes["parity"]] == [15, 336, 3249]
    worst = max(row[name] for row in notes["parity"] for name in ("torch_export", "onnx"))
    assert notes["largest_difference"] == worst <= notes["tolerance"] == 1e-4


def test_the_folder_is_loaded_as_the_pruner_it_was_made_from(exported: tuple[Path, Path]) -> None:
    source, out = exported
    (theirs, config), (ours, _) = fastdrive.load(out)._trained, fastdrive.load(source)._trained
    assert config == json.loads((source / "config.json").read_text())["encoder"]
    assert all(torch.equal(theirs.state_dict()[name], weight) for name, weight in ours.state_dict().items())


def test_the_card_names_licences_use_hashes_and_that_nothing_was_measured(exported: tuple[Path, Path]) -> None:
    card = (exported[1] / "README.md").read_text()
    files = json.loads((exported[1] / "manifest.json").read_text())["files"]
    named = ["Qwen RESEARCH LICENSE AGREEMENT", "CC BY-NC-SA 4.0", "Not for: driving a vehicle", "## Limits"]
    assert not [words for words in [*named, "None: these"] if words not in card]
    assert all(files[name]["sha256"] in card for name in files if name != "README.md")


def test_figures_are_in_the_card_only_when_they_are_of_these_weights(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = Path(shutil.copytree(exported[0], "models/recon"))
    made = {"cmd": "", "outs": [{"path": "models/recon", "md5": "a" * 32}]}
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"train_pruner@recon": made}}))
    Path("metrics").mkdir()
    totals = {"n": 112, "l2_cm_avg": 48.0, "collision_pct_avg": 5.06, "intersection_pct_avg": 1.19}
    Path("metrics/scores.json").write_text(json.dumps({"none": {"0": totals}, "recon": {"50": totals}}))
    costs = {f"pruned_{percent}": {"with_vision_ratio": ratio} for percent, ratio in ((0, 1.0), (50, 1.35))}
    Path("metrics/efficiency.json").write_text(json.dumps({"recon": costs}))
    config = json.loads((weights / "config.json").read_text())
    for stale in ([], ["plan_trained@recon"]):
        monkeypatch.setattr(register, "stale_stages", lambda *_, stale=stale: stale)
        card = folder.card("out", Path("models/recon"), config, PARAMS, [], [])
        assert ("| 50 | 112 | 48.0 | 5.06 | 1.19 | 1.35 |" in " ".join(card.split())) == (not stale)
        assert ("None: these are not" in card) == bool(stale)


def test_graphs_that_differ_are_refused_and_nothing_is_left(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(pruner: ReconPruner, where: Path) -> dict[str, Run]:
        (where / "scorer.onnx").write_bytes(b"graph")
        return {"onnx": lambda tokens, columns: torch.zeros(tokens.shape[:2])}

    monkeypatch.setattr(folder, "write_graphs", wrong)
    with pytest.raises(DataError, match="1e-04"):
        folder.export(exported[0], tmp_path / "out", PARAMS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_and_a_damaged_pruner_are_refused(exported: tuple[Path, Path], tmp_path: Path) -> None:
    source, out = exported
    with pytest.raises(DataError, match="fastdrive export"):
        folder.export(source, out, PARAMS)
    with pytest.raises(DataError, match="no such folder"):
        folder.export(tmp_path / "nowhere", tmp_path / "out", PARAMS)
    assert not (tmp_path / "out").exists()
