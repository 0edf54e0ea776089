"""params.yaml: every key known, every value within its bounds."""

from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import ParamsError
from stages.core.params import PARAMS_FILE, read_params
from stages.health.finding import PARAMS, Finding


def check(root: Path) -> Iterator[Finding]:
    """The first fault in it, with the nearest right name."""
    try:
        read_params(root / PARAMS_FILE)
    except ParamsError as error:
        yield Finding("settings", "bad", error.got, error.expected, error.fix, code=PARAMS)
        return
    profiles = sorted((root / "infra/params").glob("*.yaml"))
    same = [path.stem for path in profiles if path.read_bytes() == (root / PARAMS_FILE).read_bytes()]
    yield Finding("settings", "ok", f"params.yaml is valid ({f'profile {same[0]}' if same else 'no named profile'})")
