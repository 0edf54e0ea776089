"""Make a version champion that the gate passed and a person, or params, approved. Called by `python -m flows.promote`.

python -m stages.registry.promote 3 --by NAME --reason "..."
"""

import argparse
import logging
import os
from functools import partial

from stages.core.command import run
from stages.core.errors import GateError, ParamsError
from stages.core.params import Params
from stages.registry import moves
from stages.registry.judge import asked
from stages.registry.versions import Registry

log = logging.getLogger(__name__)
AUTO = "auto"


def main(words: argparse.Namespace, params: Params) -> None:
    """Promote, or note that a person declined. Raises GateError for a version without a passed verdict that holds."""
    registry = Registry(params.registry.name)
    version = registry.version(words.version)
    flow_run = os.environ.get("PREFECT__FLOW_RUN_ID", "")
    if words.decline:
        about = {"by": words.by, "reason": words.reason, "flow_run": flow_run}
        registry.tag({f"declined.{key}": value for key, value in about.items() if value}, version.number)
        log.info("version %s of %s was declined: %s", version.number, registry.name, words.reason)
        return
    if words.by == AUTO and not params.registry.auto:
        raise ParamsError(
            expected="registry.auto: true in params.yaml for a promotion without a person",
            got="false",
            fix='approve it: `python -m flows.promote --approve "reason"`',
        )
    tags = version.tags
    if tags.get("gate.passed") != "true" or tags.get("gate.rules") != asked(params):
        raise GateError(
            expected=f"a passed verdict on version {version.number} by the rules of params.yaml",
            got={"true": "one by other rules", "false": f"refused: {tags.get('gate.failed')}"}.get(
                tags.get("gate.passed", ""), "no verdict"
            ),
            fix=f"judge it: `{moves.PROMOTE} --version {version.number}`",
        )
    champion = tags["gate.champion"].replace("none", "")
    moved = moves.promote(registry, version.number, champion, words.by, words.reason, flow_run)
    said = f"is champion in the place of {moved.champion_before or 'none'}" if moved else "is champion already"
    log.info("version %s of %s %s", version.number, registry.name, said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m stages.registry.promote", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("version", help="number")
    parser.add_argument("--by", required=True, help=f"who approves; {AUTO}: nobody, where params allow it")
    parser.add_argument("--reason", required=True)
    parser.add_argument("--decline", action="store_true", help="note that it was not approved, and change nothing")
    run(partial(main, parser.parse_args()))
