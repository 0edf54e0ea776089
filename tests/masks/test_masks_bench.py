import json
from pathlib import Path

import pytest
import torch
from tiny_grounding import make_small

from stages.masks import bench, bench_models
from stages.masks.grounding import pixels


def test_the_bench_prints_a_line_for_each_batch_and_writes_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_small(monkeypatch, tmp_path)
    monkeypatch.setattr(bench, "SIZE_PX", (160, 90))
    monkeypatch.setattr(pixels, "DINO_SIDES_PX", (80, 133))
    monkeypatch.setattr(bench, "BERT_BASE", {**bench_models.BERT_BASE, "num_hidden_layers": 1})
    out = tmp_path / "speed.json"
    asked = ["--device", "cpu", "--batch", "1,2", "--boxes", "3", "--seconds", "0.01", "--out", str(out)]
    bench.main([*asked, "--dtype", "fp32", "--sam", "vit_b", "--dino", "swin_t"])
    printed = capsys.readouterr().out.splitlines()
    assert "no GPU: nothing of the goal is shown here" in printed[0]
    assert "20 images/s" in printed[1]
    assert len(printed) == 5
    written = json.loads(out.read_text())
    assert [row["batch"] for row in written["rows"]] == [1, 2]
    assert [row["boxes_per_image"] for row in written["rows"]] == [3, 3]
    assert torch.__version__.startswith(written["machine"]["torch"])  # one has the build in it
    assert written["settings"]["size_px"] == [160, 90]


@pytest.mark.parametrize("asked", [["--batch", "one"], ["--sam", "vit_x"], ["--dino", "swin_t,swin_l"]])
def test_what_cannot_be_measured_is_refused(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parse(asked)
    assert "wanted" in capsys.readouterr().err
