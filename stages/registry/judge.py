"""Hold a version against the rules of params and against the champion; the verdict is kept on the version.

Reads the files of both versions from MLflow's registry. Ends with 0 when every rule is kept, with 5 when one is not.

    python -m stages.registry.judge [candidate | <number> | <alias>]
"""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.core.command import run
from stages.core.errors import DataError, GateError
from stages.core.io import check_file, fingerprint, read_json, sha256, write_json
from stages.core.params import Params
from stages.planning.tables import to_markdown
from stages.registry.evidence import LATENCY, TIMED, identity, read_evidence, results_of, rules_of
from stages.registry.gate import Evidence, Verdict, judge
from stages.registry.moves import CANDIDATE, CHAMPION
from stages.registry.turn import turn
from stages.registry.versions import CONFIG, EVALUATION, PRUNER, REGISTER, WEIGHTS, Registry, Version

HEADING = "\n\n## Gate\n\n"
FILE, PASSED = "gate.json", "gate.passed"


def main(words: argparse.Namespace, params: Params) -> None:
    """Judge, keep, print; raise GateError for a refusal."""
    registry = Registry(params.registry.name)
    version = registry.version(words.version)
    aliases = registry.aliases()
    champion = aliases.get(CHAMPION, "")
    held = registry.version(champion) if champion not in ("", version.number) else None
    verdict = judge(evidence_of(registry, version), evidence_of(registry, held) if held else None, rules_of(params))
    keep(registry, version, verdict, asked(params))
    told = {"name": registry.name, "auto": params.registry.auto, "passed": verdict.passed, "rows": verdict.rows()}
    told |= {"version": version.number, "champion": champion}
    if words.json:
        write_json(Path(words.json), told)
    print(to_markdown(verdict.rows()), end="")
    if not verdict.passed:
        first, *more = verdict.refused
        came = f"{first.rule}: {first.came}, wanted {first.wanted}" + (f" (and {len(more)} more)" if more else "")
        raise GateError(
            expected=f"every rule kept by version {version.number} of {registry.name}",
            got=came,
            fix="mend what the table names, register again; or change registry.* in params.yaml",
        )


def evidence_of(registry: Registry, version: Version) -> Evidence:
    """What the files of a version say. Raises DataError for a version that was registered without them, and for files
    that are not those that were registered.
    """
    with TemporaryDirectory() as work:
        got = registry.fetch(version, Path(work))
        config = read_json(check_file(got / PRUNER, CONFIG, REGISTER), REGISTER)
        files = {name: got / EVALUATION / name for name in results_of("", Path())}
        evidence = read_evidence(files, version.number, str(config.get("encoder", "")), version.tags, f"`{REGISTER}`")
        check_registered(version, got)
        return evidence


def check_registered(version: Version, got: Path) -> None:
    """Raises DataError where the fetched files are others than the tags of the version name."""
    files = {name: got / EVALUATION / name for name in results_of("", Path())}
    came = identity(got / PRUNER / WEIGHTS, got / PRUNER / CONFIG, files), sha256(files[LATENCY])
    for key, hashed in zip(("fingerprint", TIMED), came, strict=True):
        wanted = version.tags.get(key, "" if key == "fingerprint" else hashed)  # older versions have no hash of times
        if hashed != wanted:
            raise DataError(
                expected=f"the files of {version.name} version {version.number} with {key} {wanted or 'none'}",
                got=hashed,
                fix=f"put its artifacts back; or delete the version in MLflow and register it again: `{REGISTER}`",
            )


def asked(params: Params) -> str:
    """A name for all that the gate was told: with other params a verdict is none."""
    return fingerprint(params.registry.model_dump(mode="json", exclude={"auto"}), params.grid.percents)


def keep(registry: Registry, version: Version, verdict: Verdict, rules: str) -> None:
    """The verdict as a table in the version's description, as gate.json among its files, and as tags.

    `gate.passed` goes first and comes last: killed between, there is no verdict, never half of two.
    """
    with turn(registry), TemporaryDirectory() as work:
        if PASSED in registry.version(version.number).tags:
            registry.tag({PASSED: None}, version.number)
        text = version.description.split(HEADING)[0] + HEADING
        registry.describe(version.number, text + to_markdown(verdict.rows()))
        write_json(Path(work) / FILE, asdict(verdict) | {"passed": verdict.passed, "rules": rules})
        registry.attach(version, Path(work) / FILE)
        registry.tag(_tags(verdict, rules), version.number)


def _tags(verdict: Verdict, rules: str) -> dict[str, str]:
    against = {"champion": verdict.champion or "none", "rules": rules, "at": datetime.now(UTC).isoformat()}
    failed = json.dumps([check.rule for check in verdict.refused])
    return {f"gate.{key}": value for key, value in {**against, "failed": failed}.items()} | {
        PASSED: str(verdict.passed).lower()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.registry.judge", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("version", nargs="?", default=CANDIDATE, help="number or alias")
    parser.add_argument("--json", default="", help="file that gets the verdict")
    run(partial(main, parser.parse_args()))
