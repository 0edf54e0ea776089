"""The head of the page: the verdict in one line, and where numbers came from."""

from pathlib import Path

import pytest

from stages.core.params import read_params
from stages.registry.gate import Check, Evidence, Verdict
from stages.report import champion
from stages.report.champion import against, champion_line
from stages.report.inputs import Inputs
from stages.report.provenance import limits_in_words, source_facts

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
GOOD = Check("25 % pruned: l2_cm", "at most 60", "50", True)
BAD = Check("75 % pruned: l2_cm", "at most 85", "90", False)
WORSE = Check("25 % pruned: l2_cm - champion's, upper end of 95 %", "at most +6", "+7 (mean +3, from -1)", False)
LINEAGE = Check("lineage complete", "git.commit", "none", False)


def test_the_limits_are_counted_without_what_only_a_registered_version_has() -> None:
    assert limits_in_words(Verdict("recon", "", (LINEAGE, GOOD))) == "recon keeps all 1 limits of the gate"
    words = limits_in_words(Verdict("recon", "3", (GOOD, BAD, WORSE)))
    assert words == "recon misses 1 of 2 limits of the gate, first 75 % pruned: l2_cm: 90, wanted at most 85"


def test_the_champion_is_named_with_the_first_comparison_that_fails() -> None:
    same = Check("same encoder as the champion", "a", "a", True)
    assert against(Verdict("recon", "3", (GOOD, same))) == "against champion version 3 all 1 comparisons pass"
    words = against(Verdict("recon", "3", (same, WORSE)))
    assert words.startswith("against champion version 3 1 of 2 comparisons fail, first 25 % pruned: l2_cm - champion's")
    assert against(Verdict("recon", "", (GOOD,))) == "there is no champion yet"


def test_a_registry_that_does_not_answer_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from stages.core.errors import MachineError

    def silent(name: str) -> None:
        raise MachineError(expected="the registry", got="no answer", fix="run `make serve`")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nobody")
    monkeypatch.setattr(champion, "Registry", silent)
    assert champion_line(PARAMS, Path("results")) is None
    assert "no verdict against the champion" in caplog.text


def test_what_is_unknown_is_left_out_and_hashes_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    machine = {"machine": {"cpu": "one core", "threads": 1, "torch": "2.15"}}
    inputs = Inputs([], {}, {}, {}, {"none": machine, "recon": machine}, {}, {}, {}, {})
    assert source_facts(PARAMS, inputs, "", tmp_path) == [
        ("Machine of the timings", "one core, 1 thread(s), torch 2.15")
    ]
    lock = "stages:\n  generate_masks:\n    outs:\n    - {path: data/masks, md5: 0123456789abcdef.dir}\n"
    (tmp_path / "dvc.lock").write_text(lock)
    (tmp_path / "requirements.lock").write_text("")
    facts = dict(source_facts(PARAMS, inputs, "c0ffee", tmp_path))
    assert facts["Commit"] == "c0ffee"
    assert facts["Data and weights (md5 in dvc.lock)"] == "data/masks 0123456789ab"
    assert facts["Packages (sha256 of requirements.lock)"] == "e3b0c44298fc"


def test_a_checkout_without_a_store_has_no_champion_and_gets_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(champion, "candidate", lambda params, results: Evidence("recon", "", "", {}, {}))
    line = champion_line(PARAMS, Path("results"))
    assert line is not None
    assert line.endswith("there is no champion yet")
    assert list(tmp_path.iterdir()) == []
