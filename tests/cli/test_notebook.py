"""The notebook-style script of docs/start runs as it stands, and each cell says something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs/start/prune_your_vla.py"


@pytest.mark.process
def test_the_script_prunes_and_leaves_the_model_as_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert said[0].endswith("84 of them visual")
    assert sum("all tokens: " in line for line in said) == sum("half of them: " in line for line in said) == 2
    assert "2 prompts, 84 of 168 visual tokens were read by the last layer" in said
    assert "outside the `with` the answers are those of before" in said
    assert [line.split(" tokens")[0] for line in said[-3:]] == [
        "models/demo, 25 % pruned: kept 126 of 168",
        "models/demo, 75 % pruned: kept 42 of 168",
        "divprune, 75 % pruned: kept 42 of 168",
    ]


def test_every_code_cell_prints_or_defines_what_the_next_one_needs() -> None:
    cells = SCRIPT.read_text().split("# %%")[1:]
    assert sum(cell.startswith(" [markdown]") for cell in cells) >= 5
    assert all("print(" in cell for cell in cells[2:] if not cell.startswith(" [markdown]") and "import" not in cell)
