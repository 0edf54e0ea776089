"""docs/reference/support_matrix.md: which tests cover what, counted from the tests that pytest collects.

python -m tests.support_matrix        # collects, writes the page
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

from tests.pipe_table import table
from tests.reference_docs import FOLDER, KINDS, ROOT

PAGE = FOLDER / "support_matrix.md"
COLUMNS = {  # heading -> files whose tests count, by the parameter or the file that names the plug-in
    "contract": ("tests/pruning/test_contract.py",),
    "`prune` on transformers": ("tests/vla/test_prune.py", "tests/vla/test_prune_decoding.py"),
    "hosts eager and fast": ("tests/vla/test_hosts.py", "tests/vla/test_fast_host.py", "tests/vla/test_host.py"),
    "FLOPs against torch's counter": (
        "tests/efficiency/test_whole_request.py",
        "tests/efficiency/test_pruner_costs.py",
    ),
}
SCORES = ROOT / "metrics/scores"


def collected() -> list[str]:
    """Node ids of the tests of plug-ins, gpu and slow ones too."""
    folders = [f"tests/{folder}" for folder in (*KINDS, "efficiency")]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


def page(tests: Sequence[str]) -> str:
    """The matrix of these tests and of the rows that committed metrics hold."""
    made = (
        "Made by `python -m tests.support_matrix` from the tests that pytest collects: a number is how many name it.\n"
    )
    return "\n".join(["# Support matrix\n", made, _methods(tests), _protocols(tests), _others(tests)])


def names(folder: str) -> list[str]:
    """Plug-ins of a folder."""
    files = sorted((ROOT / "stages" / folder).glob("*.py"))
    return [path.stem for path in files if KINDS[folder] in path.read_text() and path.stem != "base"]


def _naming(tests: Iterable[str], name: str, files: Sequence[str]) -> str:
    """How many tests of these files have `name` as a parameter; blank for none."""
    found = [test for test in tests if test.split("::")[0] in files and _has(test, name)]
    return str(len(found) or "")


def _has(test: str, name: str) -> bool:
    given = re.search(r"\[(.*)\]$", test)
    return given is not None and name in re.split(r"[-,\[\]]", given[1])


def _own(tests: Iterable[str], folder: str, name: str) -> str:
    """Tests of the files named like it."""
    return str(len([test for test in tests if re.match(rf"tests/{folder}/test_{name}\w*\.py", test)]) or "")


def _methods(tests: Sequence[str]) -> str:
    rows = [
        [
            f"`{name}`",
            _own(tests, "pruning", name),
            *(_naming(tests, name, files) for files in COLUMNS.values()),
            _scored(name),
        ]
        for name in names("pruning")
    ]
    words = "Methods that choose inside the language model stay on the eager host where `vla.host` is fast.\n"
    scored = "prune ratios scored by toy x omnidrive (committed)"
    return f"## Methods\n\n{words}\n{table(['method', 'own tests', *COLUMNS, scored], rows)}"


def _scored(name: str) -> str:
    path = SCORES / f"{name}.json"
    return ", ".join(sorted(json.loads(path.read_text()), key=int)) if path.is_file() else ""


def _protocols(tests: Sequence[str]) -> str:
    rows = [
        [f"`{name}`", _naming(tests, name, ("tests/planning/test_every_protocol.py",)), _own(tests, "planning", name)]
        for name in names("planning")
    ]
    words = "A protocol scores plans of any driver and method: it sees waypoints alone.\n"
    return f"## Protocols\n\n{words}\n{table(['protocol', 'contract', 'own tests'], rows)}"


def _others(tests: Sequence[str]) -> str:
    drivers = [[f"`{name}`", _own(tests, "vla", name), _named(tests, name)] for name in names("vla")]
    annotators = [[f"`{name}`", _own(tests, "masks", name)] for name in names("masks")]
    return (
        f"## Drivers\n\n{table(['driver', 'own tests', 'other tests that name it'], drivers)}\n"
        f"## Annotators\n\n{table(['annotator', 'own tests'], annotators)}\n"
        "`grounded_sam` and `impromptu` are tested at small size with random weights: no others were at hand.\n"
    )


def _named(tests: Iterable[str], name: str) -> str:
    return str(len([test for test in tests if name in test and not test.startswith(f"tests/vla/test_{name}")]) or "")


if __name__ == "__main__":
    PAGE.write_text(page(collected()))
    print(PAGE)
