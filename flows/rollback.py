"""Make the version champion again that was it before.

python -m flows.rollback --reason "brakes late on curves"     # with PREFECT_API_URL set, it shows there
"""

import argparse
import sys

from prefect import flow

from flows.person import person
from flows.server import require_server
from flows.stage import StageError, call


@flow(name="rollback", flow_run_name="rollback: {reason:.60}")
def rollback(reason: str, by: str = "", champion: str = "") -> str:
    """Restore `previous`; `champion`, where given, is the version that must go, so that two calls roll back once.

    Raises RefusedError when there is nothing to go back to.
    """
    if not reason.strip():
        raise StageError("wanted a reason; got none; next: --reason '...'", 2)
    who = person(by)
    call("stages.registry.rollback", f"--by={who}", f"--reason={reason}", f"--champion={champion}")
    return "rolled back"


def main() -> None:
    """The command line; ends with the code of the stage that refused."""
    parser = argparse.ArgumentParser(prog="python -m flows.rollback", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reason", required=True)
    parser.add_argument("--by", default="", help="who decides; the user of this process by default")
    parser.add_argument("--champion", default="", help="number of the version that is to go")
    words = parser.parse_args()
    require_server()
    try:
        print(rollback(words.reason, words.by, words.champion))
    except StageError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
