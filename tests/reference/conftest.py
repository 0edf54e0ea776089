"""Outputs of the published code as referee: `pytest tests/reference --cases DIR` takes the case files from anywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

OURS = Path(__file__).parents[1] / "cases"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=Path, help="folder searched for case files (default: tests/cases)")


@pytest.fixture
def find_cases(request: pytest.FixtureRequest) -> Callable[[str], list[Path]]:
    """Case files by name pattern, below the folder of --cases; a family that is not in that folder is skipped."""

    def find(pattern: str) -> list[Path]:
        folder = request.config.getoption("cases", default=None)  # not known when the whole suite runs
        found = sorted((folder or OURS).rglob(pattern))
        if not found and folder is not None:
            pytest.skip(f"no {pattern} below {folder}")
        assert found, f"no {pattern} below {OURS}"
        return found

    return find
