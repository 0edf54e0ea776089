"""docs/reference is what the code says, the README is short, and links between pages lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.reference_docs import FOLDER, KINDS, ROOT, pages
from tests.support_matrix import PAGE

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", ["params.md", "commands.md", "plugins.md", "files.md", "hardware.md"])
def test_a_page_of_reference_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text() == pages()[name], "next: python -m tests.reference_docs"


def test_the_support_matrix_names_every_plug_in() -> None:
    told = PAGE.read_text()
    for folder, mark in KINDS.items():
        names = [path.stem for path in (ROOT / "stages" / folder).glob("*.py") if mark in path.read_text()]
        assert not [name for name in names if name != "base" and f"`{name}`" not in told], (
            "python -m tests.support_matrix"
        )


def test_the_readme_is_short_and_shows_three_pictures() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    assert len(re.findall(r"!\[[^\]]+\]\(docs/pictures/[\w.]+\)", text)) == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]
