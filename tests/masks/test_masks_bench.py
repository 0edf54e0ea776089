import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_grounding import make_small

from stages.errors import MachineError
from stages.masks import bench, bench_models
from stages.masks.grounding import pixels

ASKED = [
    "--device",
    "cpu",
    "--dtype",
    "fp32",
    "--sam",
    "vit_b",
    "--dino",
    "swin_t",
    "--boxes",
    "3",
    "--seconds",
    "0.01",
]


def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and images of a size that a test can run."""
    make_small(monkeypatch, folder)
    monkeypatch.setattr(bench, "SIZE_PX", (160, 90))
    monkeypatch.setattr(pixels, "DINO_SIDES_PX", (80, 133))
    monkeypatch.setattr(bench, "BERT_BASE", {**bench_models.BERT_BASE, "num_hidden_layers": 1})


def test_the_bench_prints_a_line_for_each_batch_and_writes_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small(tmp_path, monkeypatch)
    out = tmp_path / "speed.json"
    bench.main([*ASKED, "--batch", "1,2", "--out", str(out)])
    printed = capsys.readouterr().out.splitlines()
    assert "no GPU: nothing of the goal is shown here" in printed[0]
    assert "20 images/s" in printed[1]
    assert len(printed) == 5
    written = json.loads(out.read_text())
    assert [row["batch"] for row in written["rows"]] == [1, 2]
    assert [row["boxes_per_image"] for row in written["rows"]] == [3, 3]
    assert torch.__version__.startswith(written["machine"]["torch"])  # one has the build in it
    for row in written["rows"]:
        assert row["images_per_s_min"] <= row["images_per_s"] <= row["images_per_s_max"]
        assert min(row[f"{part}_images_per_s"] for part in ("read", "models", "write")) > 0
    assert written["settings"]["size_px"] == [160, 90]


def test_a_batch_without_memory_is_told_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small(tmp_path, monkeypatch)
    measure = bench.measure

    def full_with_two(pipeline: Any, cameras: Any, *more: Any) -> dict[str, Any]:
        if len(cameras) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore words")
        return measure(pipeline, cameras, *more)

    monkeypatch.setattr(bench, "measure", full_with_two)
    out = tmp_path / "speed.json"
    bench.main([*ASKED, "--batch", "2,1", "--out", str(out)])
    told, measured = json.loads(out.read_text())["rows"]
    assert told == {"dino": "swin_t", "sam": "vit_b", "batch": 2, "error": "CUDA out of memory."}
    assert measured["images_per_s"] > 0
    assert "out of memory" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_an_error_of_the_user_ends_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.masks.bench", "--device", "cuda"], capture_output=True, text=True
    )
    assert done.returncode == MachineError.exit_code
    assert done.stderr.strip().startswith("wanted GPU 0")


@pytest.mark.parametrize("asked", [["--batch", "one"], ["--sam", "vit_x"], ["--dino", "swin_t,swin_l"]])
def test_what_cannot_be_measured_is_refused(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parse(asked)
    assert "wanted" in capsys.readouterr().err
