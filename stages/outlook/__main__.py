"""What `dvc repro` would run, why, and what it would take; ends with 3 when the machine has no room for it.

python -m stages.outlook [stage ...]
python -m stages.outlook --json=told.json     # for programs; --json alone writes to stdout
"""

import argparse
import difflib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.core import io
from stages.core.command import again
from stages.core.errors import InputError, ParamsError
from stages.core.journal.counts import split_frames
from stages.core.journal.graph import Stage, read_graph, read_yaml, with_inputs
from stages.core.params import read_params
from stages.core.provenance import locked
from stages.core.secrets import masked
from stages.outlook import staleness, table
from stages.outlook.fitting import DoesNotFitError, require_fit
from stages.outlook.machine import Machine, this_machine
from stages.outlook.row import Row

log = logging.getLogger("fastdrive")
STDOUT = "-"
DRIVER, MADE_HERE = "train_driver", Path("models/driver")


def main(wanted: Sequence[str], told: str | None) -> None:
    """Print the table, or write it as JSON. Raises DoesNotFitError after that; other InputErrors as they come."""
    found, here = look_ahead(wanted)
    refusal = None
    try:
        require_fit([row for row in found if row.stale], here)
    except DoesNotFitError as error:
        refusal = error
    if told is None:
        table.show(found, here)
    else:
        answer = table.as_json(found, here, str(refusal or ""))
        print(json.dumps(answer)) if told == STDOUT else io.write_json(Path(told), answer)
    if refusal:
        raise refusal
    if told is None:
        stale = any(row.stale for row in found)
        print(f"next: `{' '.join(['dvc repro', *wanted])}`" if stale else "next: open reports/index.html")


def look_ahead(wanted: Sequence[str]) -> tuple[list[Row], Machine]:
    """Rows of the stages `wanted` (all, when none are named) and of what they come from; what the machine has."""
    root = Path()
    graph, params = read_graph(root), read_params()
    names = chosen(graph, wanted)
    asked = staleness.ask_dvc(root)
    # torch takes as long to import as DVC to answer
    from stages.outlook.history import history
    from stages.outlook.rows import Setting, rows
    from stages.outlook.shape import driver_shape, driver_to_come

    tree, here = read_yaml(root / "params.yaml"), this_machine(root)
    frames, past = split_frames(graph, tree), history(graph, here.gpus)
    found = staleness.states(graph, staleness.answer(asked), locked(root), tree)
    remade = DRIVER in names and found[DRIVER].stale and Path(params.vla.checkpoint) == MADE_HERE
    shape = driver_to_come(params.train_driver) if remade else driver_shape(params.vla)
    setting = Setting(params, frames, shape, here, past)
    return rows(graph, {name: found[name] for name in graph if name in names}, setting), here


def chosen(graph: Mapping[str, Stage], wanted: Sequence[str]) -> set[str]:
    """The stages that `dvc repro <wanted>` looks at. Raises ParamsError for a name that is none."""
    names = {name: [stage for stage in graph if name in (stage, stage.partition("@")[0])] for name in wanted}
    for name in (name for name, stages in names.items() if not stages):
        near = difflib.get_close_matches(name, [*graph, *(stage.partition("@")[0] for stage in graph)], 1)
        then = f"`fastdrive plan {near[0]}`" if near else "`fastdrive plan` lists them all"
        raise ParamsError(expected="a stage of dvc.yaml", got=repr(name), fix=then)
    return with_inputs(graph, {stage for stages in names.values() for stage in stages} or set(graph))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.outlook", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stages", nargs="*", help="of dvc.yaml, with or without a cell; all when none is named")
    parser.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help="as JSON, to a file or to stdout")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    words = arguments()
    try:
        main(words.stages, words.json)
    except InputError as error:
        log.error("%s", masked(error.message(again())))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        log.error("stopped")
        sys.exit(130)
