"""Values that are named like a secret in the environment are in nothing that is recorded."""

import pytest

from stages.core.errors import masked

NAMES = ["MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PREFECT_SERVER_API_AUTH_STRING", "KEY"]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_named_like_a_secret_is_masked_wherever_it_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, 'hush"hush\\1')
    record = {"error": 'no: hush"hush\\1!', "rows": [{"a": 'hush"hush\\1'}], "n": 3}
    assert masked(record) == {"error": "no: ***!", "rows": [{"a": "***"}], "n": 3}


@pytest.mark.parametrize("name", ["KEYBOARD_LAYOUT", "MONKEY", "HOME"])
def test_other_variables_are_no_secrets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "lancaster")
    assert masked("lancaster") == "lancaster"


def test_the_user_and_password_of_an_address_are_masked_and_nothing_else_of_it() -> None:
    assert masked("at postgresql://fd:pw@db:5432/x, http://h:1/a@b") == "at postgresql://***@db:5432/x, http://h:1/a@b"
