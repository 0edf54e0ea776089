"""The page in a browser: it sorts, slides, asks nobody, and what a model said does nothing."""

import base64
import hashlib
import re
from collections.abc import Iterator

import pytest
from browser import chromium, keep_picture, needs_chromium
from playwright.sync_api import Page

from stages.core.errors import ParamsError
from stages.report.page import Cases, Clear, Gallery, Noise, Picture, Section, Slider, Table, render

pytestmark = pytest.mark.process

HOSTILE = (
    "</q></td></section><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    "<svg onload=\"document.title='taken'\"></svg><a href=\"javascript:document.title='taken'\">go</a>"
)
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def dot(alt: str) -> Picture:
    return Picture(DOT, "png", alt, alt)


def sections() -> list[Section]:
    rows = [
        ["ten", "10.50 [9, 11]", "a"],
        ["two", Noise("2.25"), "b"],
        ["none", "–", "c"],
        ["minus", Clear("−1,000"), "d"],
    ]
    parts = [("one", rows), ("two", rows[::-1])]
    wide = [f"column {i}" for i in range(30)]
    return [
        Section("Numbers", [
            Table("Sorted by hand", ["Method", "Value", "Letter"], parts, file="n"),
            Table("Wide", wide, [("", [[f"a long cell {i}" for i in range(30)]])]),
            {"Label": "value " * 20},
        ]),
        Section("Pictures", [
            Slider("Kept", "Prune ratio", [(f"{p} %", Gallery([dot(f"kept at {p}")], 5)) for p in (25, 50, 75)], 1),
        ]),
        Section("Answers", [
            HOSTILE,
            Table(HOSTILE, [HOSTILE, HOSTILE], [(HOSTILE, [[HOSTILE, HOSTILE]])]),
            Cases(HOSTILE, [([dot(HOSTILE)], HOSTILE, HOSTILE)]),
            Slider(HOSTILE, HOSTILE, [(HOSTILE, Gallery([dot(HOSTILE)]))]),
        ]),
    ]  # fmt: skip


def test_the_policy_allows_this_style_and_this_script_and_no_other() -> None:
    html = render("title", sections())
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';".replace("'", "&#39;") in html
    assert html.count("<script") == 1
    assert html.count("&lt;script&gt;") > 12


def test_a_page_that_is_too_large_says_what_to_lower() -> None:
    with pytest.raises(ParamsError, match="worst_samples"):
        render("title", [Section("x", ["é" * 1_000_000])], 1.9)


def test_pictures_of_sliders_and_galleries_are_files_of_their_section() -> None:
    steps = [(f"{p} %", Gallery([Picture(bytes([p]), "webp", "kept")])) for p in (25, 50)]
    found = Section("Kept & all", [Slider("t", "ratio", steps)]).pictures()
    assert found == {"kept---all-00.webp": b"\x19", "kept---all-01.webp": b"2"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render("A page", sections()))
    with chromium(1300) as (page, seen):
        page.goto(path.as_uri())
        yield page
        keep_picture(page, "page", whole=True)
        assert seen.errors == []
        assert [address for address in seen.requests if not address.startswith("data:")] == [path.as_uri()]


def column(page: Page, at: int) -> list[list[str]]:
    """The first table's cells of a column, by group."""
    return page.evaluate(
        "at => [...document.querySelector('table').tBodies].map(body => "
        "[...body.rows].filter(row => row.cells.length > 1).map(row => row.cells[at].textContent))",
        at,
    )


@needs_chromium
def test_a_click_sorts_by_number_or_word_within_each_group_and_dashes_stay_last(page: Page) -> None:
    value = page.locator("table").first.locator("thead th", has_text="Value")
    value.locator("button").click()
    up = ["−1,000", "2.25", "10.50 [9, 11]", "–"]
    assert column(page, 1) == [up, up]
    assert value.get_attribute("aria-sort") == "ascending"
    value.locator("button").press("Enter")
    assert column(page, 1) == [["10.50 [9, 11]", "2.25", "−1,000", "–"]] * 2
    value.locator("button").press("Space")
    assert column(page, 2) == [["a", "b", "c", "d"], ["d", "c", "b", "a"]]
    assert value.get_attribute("aria-sort") == "none"
    page.locator("table").first.locator("thead th", has_text="Method").locator("button").click()
    assert column(page, 0) == [["minus", "none", "ten", "two"]] * 2
    tops = page.evaluate("[...document.querySelector('table').tBodies].map(body => body.rows[0].className)")
    assert tops == ["group", "group"]


@needs_chromium
def test_a_slider_shows_one_step_moves_by_keys_and_says_where_it_is(page: Page) -> None:
    def seen() -> list[str]:
        return [alt for alt in ("kept at 25", "kept at 50", "kept at 75") if page.get_by_alt_text(alt).is_visible()]

    slider = page.locator(".slider").first
    assert seen() == ["kept at 50"]
    slider.locator("input").focus()
    page.keyboard.press("ArrowRight")
    assert seen() == ["kept at 75"]
    assert slider.locator("output").inner_text() == "75 %"
    page.keyboard.press("Home")
    assert seen() == ["kept at 25"]


@needs_chromium
def test_what_a_model_said_is_text_and_nothing_else_and_only_tables_scroll_sideways(page: Page) -> None:
    page.locator("summary").click()
    assert page.title() == "A page"
    assert page.locator("main script, main [onerror], main [onload], main svg, a[href^=javascript]").count() == 0
    assert page.locator("q").inner_text() == HOSTILE
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)")


@needs_chromium
def test_without_scripts_every_step_is_there(page: Page) -> None:
    assert page.context.browser is not None
    context = page.context.browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(page.url)
    assert [bare.get_by_alt_text(f"kept at {p}").is_visible() for p in (25, 50, 75)] == [True] * 3
    context.close()
