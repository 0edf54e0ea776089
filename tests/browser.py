"""A page in headless Chromium, and what went wrong in it. Tests skip where there is no Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",  # root in a container cannot have one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


SCREENSHOTS = Path(__file__).parents[1] / ".local/screenshots"  # kept for people to look at; git ignores them


def keep_picture(page: Page, name: str, *, whole: bool = False) -> Path:
    """A screenshot of what is seen, or of the `whole` page, in SCREENSHOTS."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=whole)
    return path


@dataclass
class Seen:
    """What the page said and asked for while it was open."""

    errors: list[str] = field(default_factory=list)  # console errors and uncaught exceptions
    requests: list[str] = field(default_factory=list)  # every address asked for


@contextmanager
def chromium(width_px: int = 1300, height_px: int = 900, *, dark: bool = False) -> Iterator[tuple[Page, Seen]]:
    """An empty page in a new profile; `page.goto(url)` opens something in it."""
    seen = Seen()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(
            viewport={"width": width_px, "height": height_px}, color_scheme="dark" if dark else "light"
        )
        page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        try:
            yield page, seen
        finally:
            browser.close()
