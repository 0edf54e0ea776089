"""The browser of samples: next moves, sort sorts, filter filters, a hostile answer is text."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, needs_chromium
from report.workspace import HOSTILE, write_workspace

from stages.cli import view_samples
from stages.cli.view_samples import Sample, make_samples, write_page
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params

pytestmark = pytest.mark.process

SMOKE = Path(__file__).parents[2] / "infra/params/smoke.yaml"


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Params]:
    """A finished pipeline in the working directory."""
    params = read_params(SMOKE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("view"))
        scenes = write_workspace(Path.cwd(), params)
        patch.setattr(view_samples, "open_scenes", lambda *_: scenes)
        yield params


@pytest.fixture(scope="module")
def shown(params: Params) -> list[Sample]:
    return make_samples("recon", params.grid.percents[0], params, Path("runs/view"))


@needs_chromium
def test_the_page_moves_sorts_filters_and_runs_nothing_hostile(shown: list[Sample]) -> None:
    samples = [shown[0] | {"l2_3s_cm": None}, *shown[1:]]  # its recorded future ends before 3 s
    page_file = write_page(Path("runs/view"), "recon", 50, "omnidrive", samples).absolute()
    with chromium() as (page, seen):
        page.on("dialog", lambda dialog: seen.errors.append(dialog.message))
        page.goto(page_file.as_uri())
        assert page.inner_text("#count") == f"1 of {len(shown)}"
        assert page.inner_text("#answer") == shown[0]["answer"]
        page.click("#next")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#count") == f"3 of {len(shown)}"
        page.click("#previous")
        assert page.inner_text("#count") == f"2 of {len(shown)}"
        page.select_option("#sort", "l2_cm")
        assert f"{max(sample['l2_cm'] for sample in shown):.1f} cm" in page.inner_text("#facts")
        for picture in ("#front", "#road"):
            assert page.locator(picture).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.select_option("#sort", "l2_3s_cm")
        page.click("#previous")
        assert shown[0]["token"] in page.inner_text("#facts")  # without a value: last
        page.select_option("#scene", "scene-1")
        assert page.inner_text("#count") == f"1 of {sum(sample['scene'] == 'scene-1' for sample in shown)}"
        assert any(HOSTILE in sample["answer"] for sample in shown)
        assert seen.errors == []
        assert all(address.startswith(page_file.parent.as_uri()) for address in seen.requests)
        added = page_file.read_text().replace("</body>", "<script>document.title = 'ran'</script></body>")
        page_file.write_text(added)
        page.goto(page_file.as_uri())
        assert page.title() != "ran"
        assert len(seen.errors) == 1  # the refusal


def test_no_text_of_a_model_ends_the_data_in_the_page(shown: list[Sample]) -> None:
    text = write_page(Path("runs/view"), "recon", 50, "omnidrive", shown).read_text()
    assert HOSTILE not in text
    assert text.count("<script") == 2


@pytest.mark.parametrize(("name", "percent"), [("recom", 50), ("recon", 51), ("none", 50)])
def test_a_cell_that_the_tables_do_not_have_is_refused(name: str, percent: int) -> None:
    with pytest.raises(ParamsError, match="a row of the grid"):
        make_samples(name, percent, read_params(SMOKE), Path("runs/view"))


def test_without_scores_the_stage_to_run_is_named(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="dvc repro score_plans"):
        make_samples("recon", params.grid.percents[0], params, Path("runs/view"))
