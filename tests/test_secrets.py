"""What is named like a secret in the environment is in nothing that is recorded."""

from contextlib import suppress
from pathlib import Path

import pytest

from stages.core import tracking
from stages.core.params import read_params
from stages.core.secrets import masked
from stages.core.tracking import stage_run

ROOT = Path(__file__).parents[1]
NAMES = [
    "MLFLOW_TRACKING_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GITHUB_TOKEN",
    "PREFECT_API_KEY",
    "PREFECT_SERVER_API_AUTH_STRING",
    "SOME_APIKEY",
    "KEY",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_named_like_a_secret_is_masked_wherever_it_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, 'hush"hush\\1')
    said = {"error": 'no: hush"hush\\1!', "rows": [{"a": 'hush"hush\\1'}], "n": 3}
    assert masked(said) == {"error": "no: ***!", "rows": [{"a": "***"}], "n": 3}


@pytest.mark.parametrize("name", ["KEYBOARD_LAYOUT", "MONKEY", "HOME", "OMP_NUM_THREADS"])
def test_other_variables_are_no_secrets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "lancaster")
    assert masked("lancaster") == "lancaster"


def test_the_user_and_password_of_an_address_are_masked_and_nothing_else_of_it() -> None:
    assert masked("at postgresql://fd:pw@db:5432/x, http://h:1/a@b") == "at postgresql://***@db:5432/x, http://h:1/a@b"


def test_numbers_stay_numbers_when_a_secret_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN_TOKEN", "123456")
    assert masked({"ms": 123456789, "text": "1234567"}) == {"ms": 123456789, "text": "***7"}


def test_nothing_that_a_stage_records_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "SPOOL", Path("runs/spool"))
    for number, name in enumerate(NAMES):
        monkeypatch.setenv(name, f"swordfish{number}")
    params = read_params(ROOT / "params.yaml")
    with suppress(RuntimeError), stage_run("make_world", params) as run:
        run.tags({"note": "swordfish0"})
        run.table("t", [{"who": "swordfish1"}])
        raise RuntimeError("no answer from http://ann:swordfish2@host with swordfish3")
    written = "".join(path.read_text() for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert "no answer from http://***@host with ***" in written
    assert "swordfish" not in written
