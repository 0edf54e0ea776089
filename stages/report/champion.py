"""The main trained pruner against the registry's champion, for the copy of the page that goes to MLflow.

The page that DVC makes must not depend on a server, so it does not have this line.
"""

import logging
import os
from pathlib import Path

from stages.core.errors import InputError
from stages.core.io import read_json
from stages.core.params import Params
from stages.registry.evidence import rules_of
from stages.registry.gate import Verdict, judge
from stages.registry.promotion import evidence_of
from stages.registry.versions import CHAMPION, Registry
from stages.report.inputs import trained_by
from stages.report.provenance import candidate, limits_in_words

log = logging.getLogger(__name__)


def champion_line(params: Params, results: Path) -> str | None:
    """Limits and champion in one line; None when the registry does not answer or the champion's files are damaged.

    A checkout that has no store yet is not given one by asking: it has no champion.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("mlflow.db").is_file():
        found = judge(candidate(params, results), None, rules_of(params))
        return f"{limits_in_words(found)}; {against(found)}"
    try:
        registry = Registry(params.registry.name)
        number = registry.aliases().get(CHAMPION, "")
        held = evidence_of(registry, registry.version(number)) if number else None
        found = judge(candidate(params, results, encoder_of(params)), held, rules_of(params))
    except InputError as error:
        log.warning("make_report: no verdict against the champion: %s", error)
        return None
    return f"{limits_in_words(found)}; {against(found)}"


def encoder_of(params: Params) -> str:
    """The fingerprint of the tower that the main trained pruner learned on."""
    name = params.grid.trained[0]
    return str(read_json(Path(f"models/{name}/config.json"), trained_by(name)).get("encoder", ""))


def against(verdict: Verdict) -> str:
    """How the rows about the champion came out."""
    if not verdict.champion:
        return "there is no champion yet"
    asked = [check for check in verdict.checks if "champion" in check.rule]
    missed = [check for check in asked if not check.passed]
    if not missed:
        return f"against champion version {verdict.champion} all {len(asked)} comparisons pass"
    first = missed[0]
    return (
        f"against champion version {verdict.champion} {len(missed)} of {len(asked)} comparisons fail, first "
        f"{first.rule}: {first.got}, expected {first.expected}"
    )
