"""Make the version champion again that was it before. `python -m flows.rollback` calls this.

python -m stages.registry.rollback --by NAME --reason "..."
"""

import argparse
import logging
import os
from functools import partial

from stages.core.command import run
from stages.core.params import Params
from stages.registry import moves
from stages.registry.versions import Registry

log = logging.getLogger(__name__)


def main(words: argparse.Namespace, params: Params) -> None:
    """Roll back; raises GateError when there is nothing to go back to."""
    registry = Registry(params.registry.name)
    flow_run = os.environ.get("PREFECT__FLOW_RUN_ID", "")
    moved = moves.rollback(registry, words.by, words.reason, flow_run, words.champion)
    log.info("version %s of %s is champion again, %s is not", moved.champion, registry.name, moved.champion_before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m stages.registry.rollback", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--by", required=True)
    parser.add_argument("--reason", required=True)
    parser.add_argument("--champion", default="", help="the version that is to go, so that asked twice it goes once")
    run(partial(main, parser.parse_args()))
