"""Outputs of the published code as referee: `pytest tests/reference --cases DIR` takes the case files from anywhere."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite(*(f"tests.reference.{name}_cases" for name in ("planning", "pruning", "qwen")))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=Path, help="folder searched for case files (default: tests/cases)")


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("cases", default=None)
    if folder is not None:
        from tests.reference.referee import case_files  # not above: its asserts are rewritten when it is imported

        case_files(folder)  # a wrong call ends here, and not as a failed collection
