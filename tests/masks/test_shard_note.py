"""A shard and what is noted of it: two writers, damaged notes, file systems without locks."""

import errno
import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_shard_maker import FIRST, made

from stages.core import io
from stages.masks import shards, writing
from stages.masks.base import Mask
from stages.masks.recipe import Recipe
from stages.masks.shard_maker import ShardMaker, finished


def note_of(recipe: Recipe) -> Path:
    return recipe.work_folder() / f"{FIRST.stem}.json"


def damages() -> dict[str, Any]:
    def shifted(held: Any) -> Any:
        held["of"]["rows"][0]["offset"] += 512
        return held

    return {"offset": shifted, "empty": lambda _: {}, "no note": lambda _: {"sha256": "0"}, "list": lambda _: [1]}


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_note_is_no_note(recipe: Recipe, damage: str) -> None:
    first = made(recipe, FIRST)
    path = note_of(recipe)
    whole = path.read_bytes()
    path.write_text(json.dumps(damages()[damage](json.loads(whole))))
    assert finished(recipe.work_folder(), FIRST) is None
    assert made(recipe, FIRST) == first
    assert path.read_bytes() == whole


def test_the_note_is_of_what_was_written_and_not_of_what_another_process_put_there(
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, other = writing.write_shard, [("aaaa", Mask(np.ones((3, 4), bool), (), np.zeros((0, 4), np.float32)))]

    def overtaken(path: Path, masks: Any) -> writing.Written:
        ours = write(path, masks)
        write(path, other)
        return ours

    maker = ShardMaker(recipe, recipe.work_folder())
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_shard", overtaken)
        maker(FIRST)
    assert finished(maker.work, FIRST) is None
    rows = made(recipe, FIRST)["rows"]
    shards.publish(maker.work, Path("data/masks"), rows, {})
    assert shards.MaskSet(Path("data/masks")).mask(rows[-1]["token"]).shape == (90, 160)


def test_a_second_writer_waits_and_makes_nothing(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    maker, write, begun = ShardMaker(recipe, recipe.work_folder()), writing.write_shard, list[Path]()
    monkeypatch.setattr(writing, "write_shard", lambda path, masks: (begun.append(path), write(path, masks))[1])
    with ThreadPoolExecutor(1) as pool:
        with io.alone(maker.work / "locks" / FIRST.stem, "test"):
            second = pool.submit(maker, FIRST)
            with pytest.raises(TimeoutError):
                second.result(0.5)
            maker._make(FIRST)
        assert second.result(20) == FIRST.name
    assert len(begun) == 1


def test_a_file_system_without_locks_is_worked_on_without(
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    assert made(recipe, FIRST) is not None
