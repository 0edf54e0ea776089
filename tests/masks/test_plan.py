"""plan_shards: about so many images, scenes whole where they can be, one split in a shard."""

from hypothesis import given
from hypothesis import strategies as st

from stages.masks.plan import Part, Shard, plan_shards


def scenes(split: str, count: int) -> dict[str, str]:
    return {f"{split}-{i:04d}": split for i in range(count)}


def test_the_papers_images_become_about_240_shards() -> None:
    split_of = scenes("train", 850) | scenes("val", 150)
    plan = plan_shards(split_of, dict.fromkeys(split_of, 40), 1000)
    assert sum(part.images for shard in plan for part in shard.parts) == 240_000
    assert len(plan) == 213 + 38
    assert {sum(part.images for part in shard.parts) for shard in plan[:-1]} <= {960, 480}
    assert (plan[0].name, plan[213].name) == ("shards/train-0000.tar", "shards/val-0000.tar")


def test_a_scene_joins_while_that_brings_the_shard_nearer() -> None:
    plan = plan_shards(dict.fromkeys("abc", "train"), {"a": 10, "b": 9, "c": 1}, 100)
    assert plan == [Shard("train", 0, (Part("a", 0, 10), Part("b", 0, 9))), Shard("train", 1, (Part("c", 0, 1),))]


def test_a_scene_larger_than_a_shard_is_cut_between_key_frames() -> None:
    (first, second, third) = plan_shards({"a": "val"}, {"a": 16}, 40)
    assert [shard.parts for shard in (first, second, third)] == [
        (Part("a", 0, 5),),
        (Part("a", 5, 10),),
        (Part("a", 10, 16),),
    ]


def test_no_scenes_are_no_shards_and_a_scene_without_frames_is_in_none() -> None:
    assert plan_shards({}, {}, 1000) == []
    assert plan_shards({"a": "train"}, {"a": 0}, 1000) == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=30), st.integers(1, 400))
def test_every_key_frame_is_in_one_shard_in_the_order_of_the_scenes(
    drawn: list[tuple[bool, int]], images_per_shard: int
) -> None:
    drawn.sort(key=lambda pair: pair[0])
    split_of = {f"s{i}": "val" if held else "train" for i, (held, _) in enumerate(drawn)}
    frames = {f"s{i}": count for i, (_, count) in enumerate(drawn)}
    plan = plan_shards(split_of, frames, images_per_shard)
    planned = [(part.scene, frame) for shard in plan for part in shard.parts for frame in range(part.start, part.stop)]
    assert planned == [(scene, frame) for scene, count in frames.items() for frame in range(count)]
    assert all(split_of[part.scene] == shard.split for shard in plan for part in shard.parts)
    assert len({shard.name for shard in plan}) == len(plan)
    assert all(sum(part.images for part in shard.parts) <= max(6, 1.5 * images_per_shard) for shard in plan)


def test_a_scene_appended_changes_the_last_shard_alone() -> None:
    before = scenes("train", 10)
    after = scenes("train", 11)
    plans = [plan_shards(split_of, dict.fromkeys(split_of, 40), 1000) for split_of in (before, after)]
    assert plans[0][:-1] == plans[1][: len(plans[0]) - 1]
