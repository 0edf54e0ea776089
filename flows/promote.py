"""Judge a version, show the verdict, let a person approve, make it champion.

python -m flows.promote --approve "better on curves"     # judged; approved by who runs this; no server needed
python -m flows.promote --auto                           # judged; nobody is asked, where registry.auto says so
python -m flows.promote                                  # with PREFECT_API_URL set: waits for the form in the UI
"""

import argparse
import sys
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL
from pydantic import Field

from flows.links import key, show, version_page
from flows.person import person
from flows.server import require_server
from flows.stage import REFUSED, RefusedError, StageError, ask, call

DAYS_3 = 3 * 24 * 3600
AUTO = "auto"


class Approval(RunInput):
    """The form that a person fills in the UI."""

    approve: bool = Field(False, description="On: this version becomes champion. Off: it is declined, nothing moves")
    reason: str = Field(min_length=3, description="Kept with the version, for those who look at it later")
    by: str = Field(min_length=2, title="Your name", description="Kept with the version, too")


@flow(name="promote", flow_run_name="promote {version}")
def promote(
    version: str = "candidate", auto: bool = False, approve: str = "", timeout_s: int = DAYS_3, by: str = ""
) -> str:
    """Promote `version` (a number or an alias); the answer says what came of it.

    Approved with the reason `approve` in the name of `by`, by nobody with `auto` where params allow it, else by the
    form. Raises RefusedError when the gate refuses, or when another version became champion since it judged.
    """
    who = person(by) if approve else AUTO
    verdict = judge(version)
    name, number = verdict["name"], verdict["version"]
    show(version_page(name, number), key("version", name), f"version {number} of {name} in MLflow")
    if not verdict["passed"]:
        failed = [row["rule"] for row in verdict["rows"] if row["passed"] != "yes"]
        raise RefusedError(f"the gate refused version {number} of {name}: {'; '.join(failed)}", REFUSED)
    if approve or auto:
        decision = Approval(approve=True, reason=approve or "passed the gate", by=who)
    else:
        decision = _asked(verdict, timeout_s)
    if not decision.approve:
        decide(number, decision.by, decision.reason, declined=True)
        return f"version {number} of {name} was declined by {decision.by}: {decision.reason}"
    decide(number, decision.by, decision.reason)
    return f"version {number} of {name} is champion"


@task(cache_policy=NO_CACHE)
def judge(version: str) -> dict[str, Any]:
    """The verdict on `version`, shown as a table; the command keeps it on the version, too."""
    verdict = ask("stages.registry.judge", version)
    name, number = verdict["name"], verdict["version"]
    against = f"version {verdict['champion']}" if verdict["champion"] else "no champion yet"
    said = "passed" if verdict["passed"] else "refused"
    create_table_artifact(table(verdict), key("gate", name), f"{name} version {number}: {said} ({against})")
    return verdict


@task(cache_policy=NO_CACHE)
def decide(number: str, by: str, reason: str, declined: bool = False) -> None:
    """Move the aliases, or note why not."""
    declining = ["--decline"] if declined else []
    call("stages.registry.promote", f"--by={by}", f"--reason={reason}", *declining, "--", number)


def _asked(verdict: dict[str, Any], timeout_s: int) -> Approval:
    """What a person says in the form. Pausing keeps this process, and no GPU."""
    if not PREFECT_API_URL.value():
        raise StageError('nobody can see the form: set PREFECT_API_URL, or pass --approve "reason"', 2)
    get_run_logger().info("waiting for the form of this run in the UI")
    form = Approval.with_initial_data(description=question(verdict))
    return pause_flow_run(wait_for_input=form, timeout=timeout_s, poll_interval=2)


def table(verdict: dict[str, Any]) -> list[dict[str, str]]:
    """The rows in the order that people read; JSON gives their names in that of the alphabet."""
    return [{name: row[name] for name in ("rule", "wanted", "came", "passed")} for row in verdict["rows"]]


def question(verdict: dict[str, Any]) -> str:
    """What stands above the form, in Markdown. A list, since the form is narrow and cuts a table's right half off."""
    name, number, champion = verdict["name"], verdict["version"], verdict["champion"]
    place = f"in the place of version {champion}" if champion else "where there is none yet"
    page = version_page(name, number)
    kept = [f"- {row['rule']}: **{row['came']}** ({row['wanted']})" for row in verdict["rows"]]
    more = f"Its card, files and training run: [version {number} in MLflow]({page}). " if page else ""
    about = f"{more}The gate's table is among the artifacts of this run, too."
    said = f"It keeps all {len(kept)} rules of the gate. Bold: what came; in brackets: what was wanted."
    return "\n\n".join([f"### Make version {number} of {name} champion, {place}?", about, said, "\n".join(kept)])


def main() -> None:
    """The command line; ends with the code of the stage that refused."""
    parser = argparse.ArgumentParser(prog="python -m flows.promote", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--version", default="candidate", help="number or alias")
    parser.add_argument("--auto", action="store_true", help="ask nobody, where registry.auto in params.yaml is true")
    parser.add_argument("--approve", default="", metavar="REASON", help="approve it now")
    parser.add_argument("--by", default="", help="who approves; the user of this process by default")
    words = parser.parse_args()
    require_server()
    try:
        print(promote(words.version, words.auto, words.approve, by=words.by))
    except StageError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
