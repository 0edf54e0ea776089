"""A decision carries the name of who decided, never that of a machine."""

import getpass

import pytest

from flows.person import person
from flows.stage import StageError

DEPLOYED = "PREFECT__RUNTIME__DEPLOYMENT__ID"  # Prefect's own way to say it in a test


def no_name() -> str:
    raise KeyError("getpwuid(): uid not found: 4711")


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEPLOYED, raising=False)
    monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)


def test_by_hand_it_is_the_user_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert (person(""), person(" bob ")) == ("ann", "bob")


def test_a_run_of_a_deployment_without_a_name_is_refused_since_its_worker_did_not_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DEPLOYED, "d1")
    with pytest.raises(StageError, match="fill in `by`") as told:
        person("  ")
    assert told.value.code == 2
    assert person("bob") == "bob"


def test_a_user_without_a_name_is_told_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", no_name)
    with pytest.raises(StageError, match="--by NAME"):
        person("")
