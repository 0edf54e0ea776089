"""The browser of samples: next moves, sort sorts, filter filters, a hostile answer is text; and the exports."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from browser import chromium, needs_chromium
from PIL import Image
from report_workspace import HOSTILE, write_workspace

from stages.core.errors import DataError, MachineError, ParamsError
from stages.core.params import Params, read_params
from stages.viewer import exports, samples
from stages.viewer.page import write_page
from stages.viewer.samples import Sample, check_cell, write_samples

SMOKE = Path(__file__).parents[2] / "infra/params/smoke.yaml"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A finished pipeline in the working directory."""
    params = read_params(SMOKE)
    monkeypatch.chdir(tmp_path)
    scenes = write_workspace(tmp_path, params)
    monkeypatch.setattr(samples, "open_scenes", lambda *_: scenes)
    return params


def of_recon(params: Params, kind: str = "webp") -> tuple[Path, list[Sample]]:
    folder, percent = Path("runs/view"), params.grid.percents[0]
    return folder, write_samples("recon", percent, params, folder, kind)


@needs_chromium
def test_the_page_moves_sorts_filters_and_runs_nothing_hostile(params: Params) -> None:
    folder, shown = of_recon(params)
    page_file = write_page(folder, "recon", 50, "omnidrive", shown).absolute()
    hostile = any(HOSTILE in sample.answer for sample in shown)
    with chromium() as (page, seen):
        page.on("dialog", lambda dialog: seen.errors.append(dialog.message))
        page.goto(page_file.as_uri())
        assert page.inner_text("#count") == f"1 of {len(shown)}"
        page.click("#next")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#count") == f"3 of {len(shown)}"
        page.click("#previous")
        assert page.inner_text("#count") == f"2 of {len(shown)}"
        page.select_option("#sort", "l2_cm")
        worst = max(shown, key=lambda sample: sample.l2_cm)
        assert f"{worst.l2_cm:.1f} cm" in page.inner_text("#facts")
        assert page.locator("#front").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert page.locator("#road").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.select_option("#scene", "scene-1")
        assert page.inner_text("#count") == f"1 of {len([one for one in shown if one.scene == 'scene-1'])}"
        page.select_option("#scene", "")
        page.select_option("#sort", "time")
        assert page.inner_text("#answer") == shown[0].answer
    assert hostile
    assert seen.errors == []
    assert all(address.startswith(page_file.parent.as_uri()) for address in seen.requests)


@needs_chromium
def test_a_script_that_was_added_does_not_run(params: Params) -> None:
    folder, shown = of_recon(params)
    page_file = write_page(folder, "recon", 50, "omnidrive", shown)
    added = page_file.read_text().replace("</body>", "<script>document.title = 'ran'</script></body>")
    page_file.write_text(added)
    with chromium() as (page, seen):
        page.goto(page_file.absolute().as_uri())
        assert page.title() != "ran"
    assert len(seen.errors) == 1  # the refusal


@needs_chromium
def test_a_key_frame_whose_recorded_future_ends_before_3_s_is_shown_and_stands_last(params: Params) -> None:
    folder, shown = of_recon(params)
    shown[0] = replace(shown[0], l2_3s_cm=None)
    page_file = write_page(folder, "recon", 50, "uniad", shown).absolute()
    with chromium() as (page, seen):
        page.goto(page_file.as_uri())
        assert page.inner_text("#answer") == shown[0].answer
        page.select_option("#sort", "l2_3s_cm")
        page.click("#previous")
        assert shown[0].token in page.inner_text("#facts")
    assert seen.errors == []


def test_no_text_of_a_model_ends_the_data_in_the_page(params: Params) -> None:
    folder, shown = of_recon(params)
    text = write_page(folder, "recon", 50, "omnidrive", shown).read_text()
    assert HOSTILE not in text
    assert text.count("<script") == 2


@pytest.mark.parametrize(("name", "percent"), [("recom", 50), ("recon", 51), ("none", 50)])
def test_a_cell_that_the_tables_do_not_have_is_refused(name: str, percent: int) -> None:
    with pytest.raises(ParamsError, match="a row of the grid"):
        check_cell(name, percent, read_params(SMOKE))


def test_without_scores_the_stage_to_run_is_named(params: Params) -> None:
    Path("results/scores/recon.parquet").unlink()
    with pytest.raises(DataError, match="score_trained@recon"):
        of_recon(params)


def test_fiftyones_folder_is_cocos_layout_with_the_numbers_of_each_sample(params: Params) -> None:
    folder, shown = of_recon(params, "png")
    line = exports.to_fiftyone(folder, Path("fifty"), {"method": "recon", "pruned_percent": 50}, shown)
    labels = json.loads(Path("fifty/labels.json").read_text())
    assert "COCODetectionDataset" in line
    assert {image["id"] for image in labels["images"]} == {one["image_id"] for one in labels["annotations"]}
    assert len({one["id"] for one in labels["annotations"]}) == len(shown)
    for image, one, sample in zip(labels["images"], labels["annotations"], shown, strict=True):
        with Image.open(Path("fifty/data") / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        assert one["bbox"][2:] == [image["width"], image["height"]]
        assert (one["l2_cm"], one["answer"]) == (sample.l2_cm, sample.answer)


def uv(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """A command `uv` on PATH that does so."""
    folder.mkdir()
    (folder / "uv").write_text(f"#!/bin/sh\n{does}\n")
    (folder / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_rerun_is_made_by_uv_apart_from_our_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv(tmp_path / "bin", monkeypatch, 'echo "$@" > "$0.said"; for last; do :; done; touch "$last"')
    exports.to_rerun(tmp_path, tmp_path / "new" / "out.rrd")
    said = (tmp_path / "bin" / "uv.said").read_text()
    assert said.startswith("run --isolated --no-project --with rerun-sdk==0.41.0 python ")


def test_without_a_network_or_without_uv_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv(tmp_path / "bin", monkeypatch, "echo 'no route to host' >&2; exit 2")
    with pytest.raises(MachineError, match="no route to host"):
        exports.to_rerun(tmp_path, tmp_path / "out.rrd")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="no uv on PATH"):
        exports.to_rerun(tmp_path, tmp_path / "out.rrd")


def test_no_viewer_of_others_is_in_the_lock() -> None:
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text()
    assert not [name for name in ("\nrerun-sdk==", "\nfiftyone==") if name in lock]
