"""Make the previous champion champion again.

python -m flows.rollback --reason "brakes late on curves"     # with PREFECT_API_URL set, it shows there
"""

import argparse

from prefect import flow

from flows.common import flow_run_id, person, run_flow
from stages.core.errors import ParamsError
from stages.core.params import read_params
from stages.registry import promotion
from stages.registry.versions import Registry


@flow(name="rollback", flow_run_name="rollback: {reason:.60}")
def rollback(reason: str, by: str = "", champion: str = "") -> str:
    """Make the version with the alias `previous` champion again. Raises GateError if there is none.

    Args:
        reason: Kept on the version that goes.
        by: Who decides.
        champion: Number of the version that must go; a repeated call then changes nothing. Empty: the champion of now.
    """
    if not reason.strip():
        raise ParamsError(expected="a reason", got="none", fix="--reason '...'")
    registry = Registry(read_params().registry.name)
    number = promotion.rollback(registry, person(by), reason, champion, flow_run_id())
    return f"rolled back: version {number} of {registry.name} is champion"


def main() -> None:
    """The command line; ends with 5 when there is nothing to go back to."""
    parser = argparse.ArgumentParser(prog="python -m flows.rollback", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reason", required=True)
    parser.add_argument("--by", default="", help="who decides; the user of this process by default")
    parser.add_argument("--champion", default="", help="number of the version that is to go")
    words = parser.parse_args()
    run_flow(lambda: rollback(words.reason, words.by, words.champion))


if __name__ == "__main__":
    main()
