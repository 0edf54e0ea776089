"""Promotion and rollback as flows, with one server and one store: the form filled, declined, refused, undone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registered import make_checkout, register_version

from stages.core import tracking
from stages.core.params import read_params
from stages.registry.versions import Registry

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]  # MLflow's own

# One process, since each starts its own server for half a minute. Every step prints the result and the aliases.
STEPS = """
import contextvars, json, threading, time
from uuid import UUID
from flows.promote import promote
from flows.rollback import rollback
from stages.core.errors import InputError
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flow_runs import resume_flow_run
from prefect.testing.utilities import prefect_test_harness
from stages.registry.versions import Registry

def fill(answer):
    with get_client(sync_client=True) as client:
        while True:
            time.sleep(1)
            for run in client._client.post("/flow_runs/filter", json={}).json():
                try:
                    if run["state_type"] == "PAUSED":
                        keys = run["state"]["state_details"]["run_input_keyset"]
                        print("FORM", client.read_flow_run_input(UUID(run["id"]), keys["description"]), flush=True)
                        return resume_flow_run(UUID(run["id"]), run_input=answer)
                except PrefectHTTPStatusError:  # paused, and the form not yet there
                    pass

def step(name, flow, *args, form=None, **kwargs):
    if form:
        here = contextvars.copy_context()  # which server, says a context variable
        threading.Thread(target=here.run, args=(fill, form), daemon=True).start()
    try:
        result = flow(*args, **kwargs)
    except InputError as error:
        result = f"{type(error).__name__} {error.exit_code}: {error}"
    print("STEP", json.dumps([name, result, Registry("reconpruner").aliases()]), flush=True)

with prefect_test_harness(server_startup_timeout=180):
    step("first", promote, "1", approve="the first")
    step("form", promote, "2", timeout_s=120, form={"approve": True, "reason": "better", "by": "ann"})
    step("declined", promote, "3", timeout_s=120, form={"approve": False, "reason": "not yet", "by": "bob"})
    step("auto", promote, "3", auto=True)
    step("worse", promote, "4", approve="let me")
    step("back", rollback, "brakes late", by="eve")
    step("back again", rollback, "brakes late", by="eve")
    step("hostile", promote, "--version=3")
    with get_client(sync_client=True) as client:
        for table in client._client.post("/artifacts/filter", json={}).json():
            print("TABLE", json.dumps([table["key"], table["data"], table["description"]]), flush=True)
"""


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], str]]:
    """Four versions, the last much worse; name of a step -> (result, aliases after it), and the whole output."""
    root = tmp_path_factory.mktemp("promoted")
    tracking.database(root)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_checkout(root)
        params = read_params()
        for seed, l2_cm in enumerate((40.0, 40.1, 40.2, 70.0)):
            register_version(params, seed, l2_cm)
        ended = subprocess.run(
            [sys.executable, "-c", STEPS],
            env=env | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert ended.returncode == 0, ended.stderr[-4000:]
        lines = [json.loads(line[5:]) for line in ended.stdout.splitlines() if line.startswith("STEP ")]
        yield {name: (result, aliases) for name, result, aliases in lines}, ended.stdout
    shutil.rmtree(root)


Flown = tuple[dict[str, Any], str]


def test_a_reason_on_the_command_line_approves(flown: Flown) -> None:
    result, aliases = flown[0]["first"]
    assert result == "version 1 of reconpruner is champion"
    assert aliases == {"champion": "1", "candidate": "4"}


def test_the_form_shows_the_verdict_and_its_answer_is_kept_on_the_version(flown: Flown) -> None:
    result, aliases = flown[0]["form"]
    assert result == "version 2 of reconpruner is champion"
    assert (aliases["champion"], aliases["previous"]) == ("2", "1")
    form = next(line for line in flown[1].splitlines() if line.startswith("FORM "))
    assert "Make version 2 of reconpruner champion, in the place of version 1?" in form
    assert "- 50 % pruned: l2_cm: **41.1** (at most 65)" in form
    tags = Registry("reconpruner").version("2").tags
    assert (tags["promotion.by"], tags["promotion.reason"]) == ("ann", "better")
    assert len(tags["promotion.flow_run"]) == 36


def test_a_declined_version_stays_what_it_was_and_says_who_declined(flown: Flown) -> None:
    result, aliases = flown[0]["declined"]
    assert result == "version 3 of reconpruner was declined by bob: not yet"
    assert aliases["champion"] == "2"
    assert Registry("reconpruner").version("3").tags["declined.reason"] == "not yet"


def test_nobody_is_asked_only_where_params_allow_it(flown: Flown) -> None:
    result, aliases = flown[0]["auto"]
    assert result.startswith("ParamsError 2:")
    assert "registry.auto: true" in result
    assert aliases["champion"] == "2"


def test_the_gate_refuses_a_worse_version_whoever_approves_and_shows_why(flown: Flown) -> None:
    result, aliases = flown[0]["worse"]
    assert result.startswith("GateError 5:")
    assert "25 % pruned: l2_cm: 71" in result
    assert aliases["champion"] == "2"
    assert "NO" in Registry("reconpruner").version("4").description
    tables = [json.loads(line[6:]) for line in flown[1].splitlines() if line.startswith("TABLE ")]
    (shown,) = (data for key, data, about in tables if key == "gate-reconpruner" and "version 4: refused" in about)
    assert {"rule": "25 % pruned: l2_cm", "expected": "at most 60", "got": "71", "passed": "NO"} in json.loads(shown)


def test_a_rollback_restores_the_previous_version_and_a_second_one_refuses(flown: Flown) -> None:
    result, aliases = flown[0]["back"]
    assert (result.split(":")[0], aliases) == ("rolled back", {"champion": "1", "candidate": "4"})
    assert Registry("reconpruner").version("2").tags["rollback.by"] == "eve"
    result, aliases = flown[0]["back again"]
    assert result.startswith("GateError 5:")
    assert "no previous" in result
    assert aliases["champion"] == "1"


def test_a_name_that_is_no_version_is_refused(flown: Flown) -> None:
    assert "DataError 3:" in flown[0]["hostile"][0]
