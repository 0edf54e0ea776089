"""The released driver on a tiny snapshot: what transformers' own pipeline answers, in batches, at every fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_frame import make_frame
from PIL import Image
from tiny_impromptu import CHAT, as_released, vla_section, write_snapshot

from stages.backbone.patches import patchify
from stages.core.errors import DataError, ParamsError
from stages.pruning import base as pruning
from stages.scenes.base import Frame
from stages.vla import impromptu
from stages.vla.base import driver_options, load
from stages.vla.impromptu import Driver
from stages.vla.phases import request

QUESTIONS = [  # of three lengths, in an order that batches must not keep
    "You see <image>. Seven steps, 3.0 seconds",
    "You see <image>. One step",
    "You see <image>. Seven steps, 9.5 seconds",
    "You see <image>. Two steps",
    "You see <image>. Ten step",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("snapshot")
    return folder, write_snapshot(folder)


@pytest.fixture
def opened(checkpoint: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Driver]:
    monkeypatch.setattr(impromptu, "PROOFS", tmp_path / "proofs")

    def open_driver(batch_size: int = 1, questions: Any = None, **changed: Any) -> Driver:
        section = vla_section(*checkpoint) | changed
        return load("impromptu", driver_options(section, batch_size, questions or question_of))

    return open_driver


def question_of(token: str) -> str:
    return QUESTIONS[int(token[-1])]


def frames_in(folder: Path, size_px: tuple[int, int] = (84, 56)) -> list[Frame]:
    frames = []
    for i in range(len(QUESTIONS)):
        noise = np.random.default_rng(i).integers(0, 255, (size_px[1], size_px[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        frame = make_frame(folder / f"{i}.png", f"sample-{i}")
        camera = replace(frame.cameras["CAM_FRONT"], size_px=size_px, token=f"image-{i}")
        frames.append(replace(frame, cameras={"CAM_FRONT": camera}))
    return frames


def told_by_transformers(folder: Path, frame: Frame, question: str) -> str:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    first, second = question.split("<image>")
    parts = [{"type": "text", "text": first}, {"type": "image"}, {"type": "text", "text": second}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    image = Image.open(frame.cameras["CAM_FRONT"].path)
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    return processor.batch_decode(made, skip_special_tokens=True)[0]


@pytest.mark.parametrize("layout", ["as saved now", "as released", "untied"])
def test_answers_are_those_of_transformers_own_processor_and_generate(
    layout: str, opened: Callable[..., Driver], tmp_path: Path
) -> None:
    sha256 = write_snapshot(tmp_path / "own", tied=layout != "untied")
    if layout == "as released":
        as_released(tmp_path / "own")
    frames = frames_in(tmp_path)
    driver = opened(3, checkpoint=str(tmp_path / "own"), checkpoint_sha256=sha256)
    (plans,) = driver.plan(frames, pruning.load("none", {}), [0]).values()
    wanted = [told_by_transformers(tmp_path / "own", frame, question_of(frame.token)) for frame in frames]
    assert [plan.answer for plan in plans] == wanted
    assert len(set(wanted)) == len(frames)


@pytest.mark.parametrize(
    ("name", "options"), [("none", {}), ("random_keep", {"seed": 3}), ("divprune", {}), ("fastv", {"layer": 1})]
)
def test_batches_of_mixed_questions_answer_token_by_token_as_one_by_one(
    name: str, options: dict[str, Any], opened: Callable[..., Driver], tmp_path: Path
) -> None:
    frames, pruner = frames_in(tmp_path, (168, 112)), pruning.load(name, options)
    alone, together = opened(1, size_px=[168, 112]), opened(8, size_px=[168, 112])
    percents = [0] if name == "none" else [25, 75]
    assert [len(batch) for batch in together.batches(frames)] == [2, 1, 2]
    singles, batched = alone.plan(frames, pruner, percents), together.plan(frames, pruner, percents)
    for percent in percents:
        assert [plan.token for plan in batched[percent]] == [frame.token for frame in frames]
        assert [plan.answer for plan in batched[percent]] == [plan.answer for plan in singles[percent]]
        assert [plan.kept.tolist() for plan in batched[percent]] == [plan.kept.tolist() for plan in singles[percent]]
        assert {plan.tokens_kept for plan in batched[percent]} == {24 * (100 - percent) // 100}
    assert together.counts() == {"images_encoded": 5, "scorings": 3}


def test_an_answer_stops_at_either_end_and_nothing_follows_it(
    opened: Callable[..., Driver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, (frame, *_) = opened(), frames_in(tmp_path)
    assert driver.ends == (2, 0)
    (whole,) = driver.plan([frame], pruning.load("none", {}), [0])[0]
    ids = driver.tokenizer(whole.answer, add_special_tokens=False)["input_ids"]
    driver.ends = (2, ids[4])  # as if the fifth token ended an answer, too
    (cut,) = driver.plan([frame], pruning.load("none", {}), [0])[0]
    kept = driver.tokenizer(cut.answer, add_special_tokens=False)["input_ids"]
    assert kept == ids[: ids.index(ids[4]) + 1]


def test_the_released_budget_gives_the_pixels_of_the_released_pipeline(
    opened: Callable[..., Driver], checkpoint: tuple[Path, str], tmp_path: Path
) -> None:
    from transformers import AutoProcessor

    driver, (frame, *_) = opened(fit="budget"), frames_in(tmp_path, (1600, 900))
    images = driver.images([frame])
    assert images.shape == (1, 3, 392, 672)
    assert driver.tower.grid((672, 392)) == (14, 24)  # 336 tokens, research/planning.md 2.5
    capped = Image.open(frame.cameras["CAM_FRONT"].path).resize((682, 384), Image.Resampling.BICUBIC)
    processor = AutoProcessor.from_pretrained(checkpoint[0], local_files_only=True).image_processor
    theirs = processor(images=[capped], return_tensors="pt")
    assert theirs["image_grid_thw"].tolist() == [[1, 28, 48]]
    assert (patchify(images) - theirs["pixel_values"]).abs().max() < 1.6 / 255 / 0.26  # a grey level


def test_images_of_other_sizes_are_batched_apart(opened: Callable[..., Driver], tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    frames = [frames_in(tmp_path, (320, 180))[0], frames_in(tmp_path / "wide", (320, 100))[2]]
    driver = opened(8, fit="budget", max_pixels=30000)
    assert [len(batch) for batch in driver.batches(frames)] == [1, 1]
    plans = driver.plan(frames, pruning.load("none", {}), [0])[0]
    assert [plan.grid for plan in plans] == [(5, 8), (3, 11)]


def test_a_ruler_and_a_method_of_masks_find_their_truth(opened: Callable[..., Driver], tmp_path: Path) -> None:
    frames, driver = frames_in(tmp_path), opened(8)
    mask = np.zeros((56, 84), bool)
    mask[28:, :28] = True  # the lower left token
    driver.options = replace(driver.options, mask_of=lambda token: mask)
    masked = pruning.load("masked_text_attention", {"layer": 1, "threshold": 0.5})
    (plans,) = driver.plan(frames, masked, [80]).values()
    assert {tuple(plan.kept) for plan in plans} == {(3,)}


def test_its_request_can_be_taken_apart_for_latency(opened: Callable[..., Driver], tmp_path: Path) -> None:
    asked = request(opened(), frames_in(tmp_path)[0], 4)
    calls = asked.calls(pruning.load("divprune", {}), 3)
    assert calls["end_to_end"]().shape == calls["decode"]().shape == (1, 4)
    words = QUESTIONS[0].replace("<image>", "").encode()  # a byte a token
    assert asked.text_tokens == len(words) + 38 + 6 + 2 + 2 + 11  # system, user, vision marks, end of turn, assistant


def test_it_plans_on_what_it_is_shown_and_asked(opened: Callable[..., Driver], tmp_path: Path) -> None:
    first, second, *_ = frames_in(tmp_path)
    none = pruning.load("none", {})
    asked = replace(first, token=second.token)
    seen = replace(first, cameras=second.cameras)
    answers = [opened().plan([frame], none, [0])[0][0].answer for frame in (first, asked, seen)]
    assert len(set(answers)) == 3


def test_what_is_no_answer_is_parked_and_remarked(opened: Callable[..., Driver]) -> None:
    driver = opened()
    for text in ("<PLANNING>[nan, 0]</PLANNING>", "no idea"):
        waypoints_m, parsed = driver.read_answer(text)
        assert not parsed
        assert waypoints_m.tolist() == [[0, 0]] * 6
    assert driver.remark("<PLANNING>[nan, 0]</PLANNING>") == "not finite"
    assert driver.read_answer("<PLANNING>[1, 2], [3, 4]</PLANNING>")[0].tolist() == [[1, 2]] + [[3, 4]] * 5


@pytest.mark.parametrize(
    "template", [None, CHAT.replace("<|image_pad|>", ""), CHAT.replace("<|image_pad|>", "<|image_pad|>" * 2)]
)
def test_a_template_that_shows_no_single_image_is_refused(
    template: str | None, opened: Callable[..., Driver], tmp_path: Path
) -> None:
    driver = opened()
    driver.tokenizer.chat_template = template
    with pytest.raises(DataError, match=r"chat template.*puts <\|image_pad\|> once.*chat_template.jinja"):
        driver.plan(frames_in(tmp_path), pruning.load("none", {}), [0])


def test_a_driver_that_nobody_asks_says_so(
    checkpoint: tuple[Path, str], opened: Callable[..., Driver], tmp_path: Path
) -> None:
    driver = opened()
    driver.options = replace(driver.options, question_of=None)
    with pytest.raises(ParamsError, match="a question about each key frame"):
        driver.plan(frames_in(tmp_path), pruning.load("none", {}), [0])
