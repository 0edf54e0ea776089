"""Judge a version, show the verdict, let a person approve or decline, make it champion.

python -m flows.promote --approve "better on curves"     # approved by who runs this; no server needed
python -m flows.promote --auto                           # nobody is asked, where registry.auto allows it
python -m flows.promote                                  # waits for the form in the UI of `make serve`
"""

import argparse

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed
from pydantic import Field, field_validator

from flows.common import artifact_key, flow_run_id, person, run_flow, show, version_page
from stages.core.errors import MachineError
from stages.core.params import read_params
from stages.registry import promotion
from stages.registry.gate import Verdict
from stages.registry.promotion import AUTO
from stages.registry.versions import Registry, Version

DAYS_3 = 3 * 24 * 3600


class Approval(RunInput):
    """The form that a person fills in the UI."""

    approve: bool = Field(False, description="On: this version becomes champion. Off: it is declined, nothing moves")
    reason: str = Field(min_length=3, description="Stored with the version")
    by: str = Field(min_length=2, title="Your name", description="Stored with the version")

    @field_validator("reason", "by")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        if len(text.strip()) < 2:
            raise ValueError("not blanks only")
        return text.strip()


@flow(name="promote", flow_run_name="promote {version}")
def promote(
    version: str = "candidate", auto: bool = False, approve: str = "", timeout_s: int = DAYS_3, by: str = ""
) -> State[str]:
    """Judge a version and make it champion. Raises GateError when the gate refuses, or the champion changed meanwhile.

    Args:
        version: Number or alias of the version.
        auto: Ask nobody, where registry.auto in params.yaml allows it.
        approve: A reason approves it now. Empty: this run pauses until somebody has filled its form.
        timeout_s: Seconds after which an unanswered form fails the run.
        by: Who approves, where `approve` is given.
    """
    params, who = read_params(), person(by) if approve else AUTO
    registry = Registry(params.registry.name)
    found, verdict = judge(registry, version)
    number = found.number
    page, key = version_page(registry.name, number), artifact_key("version", registry.name)
    show(page, key, f"version {number} of {registry.name} in MLflow")
    promotion.check_passed(registry, found, verdict)
    if approve or auto:
        decision = Approval(approve=True, reason=approve or "passed the gate", by=who)
    else:
        decision = ask(registry, verdict, timeout_s)
    if decision.approve:
        promotion.promote(registry, number, params, decision.by, decision.reason, flow_run_id())
        name, message = "Promoted", f"version {number} of {registry.name} is champion"
    else:
        promotion.decline(registry, number, decision.by, decision.reason, flow_run_id())
        name, message = "Declined", f"version {number} of {registry.name} was declined by {decision.by}"
        message += f": {decision.reason}"
    create_markdown_artifact(message, artifact_key("decision", registry.name), name)
    return Completed(name=name, message=message, data=message)


@task(cache_policy=NO_CACHE)
def judge(registry: Registry, version: str) -> tuple[Version, Verdict]:
    """The verdict on `version`, shown as a table; the registry stores it with the version, too."""
    found, verdict = promotion.judge(registry, version, read_params())
    against = f"against version {verdict.champion}" if verdict.champion else "no champion yet"
    result = "passed" if verdict.passed else "refused"
    about = f"{registry.name} version {found.number}: {result} ({against})"
    create_table_artifact(verdict.rows(), artifact_key("gate", registry.name), about)
    return found, verdict


def ask(registry: Registry, verdict: Verdict, timeout_s: int) -> Approval:
    """Wait for the form in the UI. The process stays, without a GPU."""
    if not PREFECT_API_URL.value():
        raise MachineError(
            expected="a Prefect server with the form",
            got="none",
            fix='`make serve` in another shell, or `fastdrive promote --approve "reason"`',
        )
    get_run_logger().info("waiting for the form of this run in the UI")
    form = Approval.with_initial_data(description=question(registry, verdict))
    return pause_flow_run(wait_for_input=form, timeout=timeout_s, poll_interval=2)


def question(registry: Registry, verdict: Verdict) -> str:
    """The text above the form, in Markdown. A list, because the form is narrow and cuts a table off."""
    name, number, champion = registry.name, verdict.candidate, verdict.champion
    replaced = f"in the place of version {champion}" if champion else "the first one"
    page = version_page(name, number)
    link = f"Its card, files and training run: [version {number} in MLflow]({page}). " if page else ""
    rows = [f"- {check.rule}: **{check.got}** ({check.expected})" for check in verdict.checks]
    title = f"### Make version {number} of {name} champion, {replaced}?"
    table = f"{link}The gate's table is among the artifacts of this run."
    rules = f"It keeps all {len(rows)} rules of the gate. Bold: the value; in brackets: the rule."
    return "\n\n".join([title, table, rules, "\n".join(rows)])


def main() -> None:
    """The command line; ends with 5 when the gate refuses."""
    parser = argparse.ArgumentParser(prog="python -m flows.promote", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--version", default="candidate", help="number or alias")
    parser.add_argument("--auto", action="store_true", help="ask nobody, where registry.auto in params.yaml is true")
    parser.add_argument("--approve", default="", metavar="REASON", help="approve it now")
    parser.add_argument("--by", default="", help="who approves; the user of this process by default")
    words = parser.parse_args()
    run_flow(lambda: promote(words.version, words.auto, words.approve, by=words.by))


if __name__ == "__main__":
    main()
