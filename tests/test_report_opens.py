"""The whole report of a small finished pipeline in a browser, at a desk and on a phone."""

from pathlib import Path

import pytest
from browser import chromium, needs_chromium
from report_workspace import write_workspace

from stages import make_report
from stages.core.params import read_params

CHECKOUT = Path(__file__).parents[1]
SCREENSHOTS = CHECKOUT / ".local/screenshots"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with its report: few methods, all ratios."""
    whole, folder = read_params(CHECKOUT / "params.yaml"), tmp_path_factory.mktemp("opened")
    grid = whole.grid.model_copy(update={"pruners": ["none", "divprune"], "trained": ["recon", "foreground_only"]})
    shown = whole.make_report.model_copy(update={"overlay_methods": ["recon"], "worst_samples": 2, "overlay_frames": 1})
    params = whole.model_copy(update={"grid": grid, "make_report": shown})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        scenes = write_workspace(folder, params)
        patch.setattr(make_report, "open_scenes", lambda root, version: scenes)
        patch.setattr(make_report, "champion_line", lambda params, results: None)
        make_report.main(params)
    return folder


@needs_chromium
@pytest.mark.parametrize("width_px", [1300, 390])
def test_page_opens_without_an_error_or_a_request_and_does_not_scroll_sideways(reported: Path, width_px: int) -> None:
    address = (reported / "reports/index.html").as_uri()
    with chromium(width_px) as (page, seen):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        slider = page.locator(".slider").first
        assert slider.locator(".step:visible").get_attribute("data-label") == "50 % pruned"
        slider.locator("input").press("ArrowRight")
        assert slider.locator(".step:visible").get_attribute("data-label") == "75 % pruned"
        assert (
            slider.locator("img:visible").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        )
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"report-{width_px}.png")
    assert seen.errors == []
    assert [request for request in seen.requests if not request.startswith("data:")] == [address]
