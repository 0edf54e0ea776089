"""The notebook-style script of docs/start runs as it stands, and each cell says something."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs/start/prune_your_vla.py"


@pytest.mark.process
def test_the_script_prunes_and_leaves_the_model_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(SCRIPT))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("84 of them visual")
    assert sum("all tokens: " in line for line in lines) == sum("half of them: " in line for line in lines) == 2
    assert "2 prompts, 84 of 168 visual tokens were read by the last layer" in lines
    assert "outside the `with` the answers are those of before" in lines
    assert [line.split(" tokens")[0] for line in lines[-3:]] == [
        "models/demo, 25 % pruned: kept 126 of 168",
        "models/demo, 75 % pruned: kept 42 of 168",
        "divprune, 75 % pruned: kept 42 of 168",
    ]
