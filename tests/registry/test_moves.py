"""Aliases of three versions: promoted, rolled back, at once, and with a process that dies between two writes."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import GateError
from stages.registry import moves
from stages.registry.turn import turn
from stages.registry.versions import Registry

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own
ROOT = Path(__file__).parents[2]


def promote(registry: Registry, number: str, champion: str) -> moves.Move | None:
    return moves.promote(registry, number, champion, "ann", "better on curves")


def names(registry: Registry) -> list[str]:
    return [model.name for model in registry.client.search_registered_models()]


def test_a_promotion_moves_previous_and_champion_and_says_who_and_why(registry: Registry) -> None:
    promote(registry, "1", "")
    assert registry.aliases() == {"candidate": "3", "champion": "1"}
    promote(registry, "3", "1")
    assert registry.aliases() == {"champion": "3", "previous": "1"}
    tags = registry.version("champion").tags
    assert (tags["promotion.by"], tags["promotion.reason"]) == ("ann", "better on curves")
    assert tags["promotion.previous"] == "1"
    assert [(move.kind, move.champion) for move in moves.history(registry)] == [("promotion", "1"), ("promotion", "3")]
    assert names(registry) == ["reconpruner"]  # the turn was given back
    assert promote(registry, "3", "1") is None


def test_rollbacks_go_back_one_by_one_and_then_refuse(registry: Registry) -> None:
    for number, before in (("1", ""), ("2", "1"), ("3", "2")):
        promote(registry, number, before)
    moves.rollback(registry, "bob", "brakes late", champion="3")
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    assert registry.version("3").tags["rollback.reason"] == "brakes late"
    with pytest.raises(GateError, match=r"wanted version 3 to be champion.*got version 2"):
        moves.rollback(registry, "bob", "brakes late", champion="3")
    moves.rollback(registry, "bob", "also")
    assert registry.aliases() == {"champion": "1"}
    with pytest.raises(GateError, match="no previous"):
        moves.rollback(registry, "bob", "again")
    assert registry.aliases() == {"champion": "1"}


def test_a_promotion_judged_against_another_champion_is_told_and_changes_nothing(registry: Registry) -> None:
    promote(registry, "1", "")
    promote(registry, "2", "1")
    with pytest.raises(GateError, match=r"wanted version 1 to be champion.*got version 2") as told:
        promote(registry, "3", "1")
    assert told.value.exit_code == 5
    assert registry.aliases() == {"candidate": "3", "champion": "2", "previous": "1"}


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(registry: Registry) -> None:
    promote(registry, "1", "")
    together, told = threading.Barrier(2), list[str]()

    def run(number: str) -> None:
        together.wait()
        try:
            moves.promote(Registry("reconpruner"), number, "1", "ann", "mine")
            told.append(f"{number} won")
        except GateError:
            told.append(f"{number} told")

    threads = [threading.Thread(target=run, args=(number,)) for number in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = registry.aliases()["champion"]
    lost = {"2": "3", "3": "2"}[won]
    assert sorted(told) == sorted([f"{won} won", f"{lost} told"])
    assert registry.aliases()["previous"] == "1"


class Killed(BaseException):
    """As a kill: nothing behind it is run, not even what gives the turn back."""


def die_after(writes: int, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promote the third version and die behind write number `writes`, with the turn still held."""
    done = 0

    def count(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done > writes:
                raise Killed
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("set_registered_model_alias", "delete_registered_model_alias", "set_registered_model_tag"):
            patch.setattr(registry.client, name, count(getattr(registry.client, name)), raising=False)
        for name in ("delete_registered_model_tag", "set_model_version_tag"):
            patch.setattr(registry.client, name, count(getattr(registry.client, name)), raising=False)
        patch.setattr(registry.client, "delete_registered_model", lambda _name: None, raising=False)
        with pytest.raises(Killed):
            promote(registry, "3", "2")


@pytest.mark.parametrize("writes", range(9))
def test_a_promotion_killed_between_any_two_writes_has_a_champion_and_is_mended_by_the_next(
    writes: int, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(registry, "1", "")
    promote(registry, "2", "1")
    die_after(writes, registry, monkeypatch)
    assert registry.aliases()["champion"] in ("2", "3")  # a reader always finds one
    assert "reconpruner.turn" in names(registry)
    moved = registry.aliases()["champion"] == "3"
    with turn(registry):
        moves.mend(registry)
    if moved:
        assert registry.aliases() == {"champion": "3", "previous": "2"}
        assert registry.version("3").tags["promotion.reason"] == "better on curves"
    else:
        assert registry.aliases() == {"candidate": "3", "champion": "2", "previous": "1"}
        promote(registry, "3", "2")
        assert registry.aliases() == {"champion": "3", "previous": "2"}
    assert moves.NOTE not in registry.tags()
    assert len(moves.history(registry)) == 3


KILLED = """
import os, signal
from stages.registry import moves
from stages.registry.versions import Registry
registry = Registry("reconpruner")
real = registry.client.set_registered_model_alias
def set_alias(name, alias, number):
    if alias == "champion":
        os.kill(os.getpid(), signal.SIGKILL)
    real(name, alias, number)
registry.client.set_registered_model_alias = set_alias
moves.promote(registry, "3", "2", "ann", "why")
"""


def test_after_kill_9_the_next_rollback_goes_back_from_the_right_version(registry: Registry) -> None:
    promote(registry, "1", "")
    promote(registry, "2", "1")
    killed = subprocess.run([sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert killed.returncode == -9
    assert registry.aliases() == {"candidate": "3", "champion": "2", "previous": "2"}  # half of a promotion
    moves.rollback(registry, "bob", "brakes late")
    assert registry.aliases() == {"candidate": "3", "champion": "1"}


def test_the_turn_of_a_living_process_elsewhere_is_waited_for_and_then_told(registry: Registry) -> None:
    elsewhere = '{"owner": "machine-b:/work", "pid": 7, "turn": "t1"}'
    registry.client.create_registered_model("reconpruner.turn", {"holder": elsewhere})
    with pytest.raises(GateError, match="machine-b:/work, process 7"), turn(registry, patience_s=0.5):
        pass
    assert "reconpruner.turn" in names(registry)


def test_the_turn_of_a_process_that_died_elsewhere_ends_by_our_clock_and_only_once(registry: Registry) -> None:
    elsewhere = '{"owner": "machine-b:/work", "pid": 7, "turn": "t1"}'
    registry.client.create_registered_model("reconpruner.turn", {"holder": elsewhere})
    with turn(registry, stale_s=0.3):
        assert set(names(registry)) == {"reconpruner", "reconpruner.turn", "reconpruner.turn.t1"}
        late = Registry("reconpruner")
        from stages.registry import turn as module

        module._end(late, "t1")  # a third that saw the same dead turn: it must not end ours
        assert "reconpruner.turn" in names(registry)
