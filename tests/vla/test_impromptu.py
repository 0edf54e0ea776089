"""The released driver on a tiny snapshot: what transformers' own pipeline answers, in batches, at every fit.

Its answers as text: the official cases are judged in tests/reference; here what counts as parsed, and remarks. And that
a snapshot is whole, and the one that params name, before anything is loaded from it.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_frame import make_frame
from PIL import Image
from tiny_impromptu import CHAT, as_released, vla_section, write_snapshot

from stages.backbone.qwen import patchify
from stages.core.errors import DataError, ParamsError
from stages.pruning import base as pruning
from stages.scenes.base import Frame
from stages.vla import impromptu
from stages.vla.base import driver_options, load
from stages.vla.impromptu import (
    Driver,
    capped_size,
    fitted_size,
    parse_answer,
    read_fitted,
    require,
    verify,
    weights_hash,
)

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

    def open_driver(batch_size: int = 1, **changed: Any) -> Driver:
        return load("impromptu", driver_options(vla_section(*checkpoint) | changed, batch_size, question_of))

    return open_driver


def question_of(token: str) -> str:
    return QUESTIONS[int(token[-1])]


def frames_in(folder: Path, size_px: tuple[int, int] = (84, 56), count: int = 5) -> list[Frame]:
    frames = []
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 255, (size_px[1], size_px[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        frame = make_frame(folder / f"{i}.png", f"sample-{i}")
        camera = replace(frame.cameras["CAM_FRONT"], size_px=size_px, token=f"image-{i}")
        frames.append(replace(frame, cameras={"CAM_FRONT": camera}))
    return frames


def told_by_transformers(folder: Path, frames: list[Frame]) -> list[str]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    answers = []
    for frame in frames:
        first, second = question_of(frame.token).split("<image>")
        parts = [{"type": "text", "text": first}, {"type": "image"}, {"type": "text", "text": second}]
        text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        image = Image.open(frame.cameras["CAM_FRONT"].path)
        inputs = processor(text=[text], images=[image], return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        answers += processor.batch_decode(made, skip_special_tokens=True)
    return answers


@pytest.mark.parametrize("layout", ["as saved now, untied", "as released"])
def test_answers_are_those_of_transformers_own_processor_and_generate(
    layout: str, opened: Callable[..., Driver], tmp_path: Path
) -> None:
    sha256 = write_snapshot(tmp_path / "own", tied="untied" not in layout)
    if layout == "as released":
        as_released(tmp_path / "own")
    frames = frames_in(tmp_path)
    driver = opened(3, checkpoint=str(tmp_path / "own"), checkpoint_sha256=sha256)
    (plans,) = driver.plan(frames, pruning.load("none", {}), [0]).values()
    wanted = told_by_transformers(tmp_path / "own", frames)
    assert [plan.answer for plan in plans] == wanted
    assert len(set(wanted)) == len(frames)


@pytest.mark.parametrize(("name", "options"), [("random_keep", {"seed": 3}), ("fastv", {"layer": 1})])
def test_batches_of_mixed_questions_answer_token_by_token_as_one_by_one(
    name: str, options: dict[str, Any], opened: Callable[..., Driver], tmp_path: Path
) -> None:
    frames, pruner = frames_in(tmp_path, (168, 112)), pruning.load(name, options)
    alone, together = opened(1, size_px=[168, 112]), opened(8, size_px=[168, 112])
    percents = [0, 75]
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

    driver, (frame, *_) = opened(fit="budget"), frames_in(tmp_path, (1600, 900), 1)
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


def test_what_is_no_answer_is_parked_and_remarked(opened: Callable[..., Driver]) -> None:
    driver = opened()
    for text in ("<PLANNING>[nan, 0]</PLANNING>", "no idea"):
        waypoints_m, parsed = driver.read_answer(text)
        assert not parsed
        assert waypoints_m.tolist() == [[0, 0]] * 6
    assert driver.remark("<PLANNING>[nan, 0]</PLANNING>") == "not finite"
    assert driver.read_answer("<PLANNING>[1, 2], [3, 4]</PLANNING>")[0].tolist() == [[1, 2]] + [[3, 4]] * 5


@pytest.mark.parametrize("template", [None, CHAT.replace("<|image_pad|>", "<|image_pad|>" * 2)])
def test_a_template_that_shows_no_single_image_is_refused(
    template: str | None, opened: Callable[..., Driver], tmp_path: Path
) -> None:
    driver = opened()
    driver.tokenizer.chat_template = template
    with pytest.raises(DataError, match=r"chat template.*puts <\|image_pad\|> once.*chat_template.jinja"):
        driver.plan(frames_in(tmp_path), pruning.load("none", {}), [0])


# Images.

BUDGET = 512 * 512


def test_the_released_budget_leaves_336_tokens_of_a_nuscenes_image() -> None:
    assert capped_size((1600, 900), BUDGET) == (682, 384)
    assert fitted_size((1600, 900), (1596, 1596), "budget", BUDGET) == (672, 392)
    assert fitted_size((1600, 900), (1596, 1596), "stretch", BUDGET) == (1596, 1596)  # 57 x 57 tokens
    assert fitted_size((300, 200), (84, 84), "budget", BUDGET) == (308, 196)


@pytest.mark.parametrize("size_px", [(1600, 900), (700, 40), (28, 28), (28, 1999), (42, 70)])
def test_sides_are_those_of_the_official_processor(size_px: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    W, H = size_px
    height, width = smart_resize(H, W, min_pixels=784, max_pixels=10**9)
    assert fitted_size(size_px, (84, 84), "budget", 10**9) == (width, height)


@pytest.mark.parametrize("data", [None, b"no image"])
def test_an_image_that_is_missing_or_does_not_decode_is_refused(data: bytes | None, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"an image in .*a.png"):
        read_fitted(tmp_path / "a.png", (84, 84), "budget", BUDGET)


# Answers.

SIX = ", ".join(f"[{i}.0, 0.5]" for i in range(1, 7))


@pytest.mark.parametrize(
    ("text", "last", "remark"),
    [
        (f"<PLANNING>The output is formatted as [x, y]: {SIX}</PLANNING>", [6, 0.5], ""),
        ("<PLANNING>[x, y]: [1, 0], [2, 0], [3, 1]</PLANNING>", [3, 1], "fewer points"),
        (f"<PLANNING>{SIX}, [7.0, 1], [8.0, 1], [9.0, 1]</PLANNING>", [6, 0.5], "more points"),
        (f"[9.9, 9.9], {SIX}.", [6, 0.5], "no tags"),
        ("<PLANNING>[1, 2, 3], [4, 5, 6]</PLANNING>", [4, 5], "fewer points"),
    ],
)
def test_answers_are_read_as_the_official_evaluator_reads_them(text: str, last: list[float], remark: str) -> None:
    answer = parse_answer(text)
    assert answer.waypoints_m[-1].tolist() == last
    assert (answer.parsed, answer.remark, len(answer.waypoints_m)) == (True, remark, 6)


@pytest.mark.parametrize("text", ["", "<PLANNING>[1, 2], [3, 4, 5]</PLANNING>", "<PLANNING>[1], [2]</PLANNING>"])
def test_what_the_evaluator_fails_on_is_parked_and_not_parsed(text: str) -> None:
    answer = parse_answer(text)
    assert not answer.waypoints_m.any()
    assert (answer.parsed, answer.remark, answer.waypoints_m.shape) == (False, "no points", (6, 2))


@pytest.mark.parametrize("number", ["nan", "1e999"])
def test_an_answer_of_no_finite_number_goes_through_and_is_not_parsed(number: str) -> None:
    answer = parse_answer(f"<PLANNING>[{number}, 0], [2, 0]</PLANNING>")
    assert not np.isfinite(answer.waypoints_m[0, 0])
    assert answer.waypoints_m[1:].tolist() == [[2, 0]] * 5
    assert (answer.parsed, answer.remark) == (False, "not finite")


def test_the_server_repeats_nothing_and_knows_no_exponents() -> None:
    answer = parse_answer("[1.0, 0.0], [1e1, 2], [4,.5]", "neuroncap_server")
    assert answer.waypoints_m.tolist() == [[1, 0], [4, 0.5]]
    assert not answer.parsed
    assert not parse_answer("[1.0, 0.0], [1-2, 3]", "neuroncap_server").waypoints_m.any()


# The snapshot.

INDEX, FIRST = "model.safetensors.index.json", "model-00001-of-00006.safetensors"


@pytest.fixture
def folder(checkpoint: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(impromptu, "PROOFS", tmp_path / "proofs")
    return Path(shutil.copytree(checkpoint[0], tmp_path / "3B_AD"))


def test_weights_have_the_hash_that_sha256sum_gives_and_are_read_again_only_when_they_change(
    folder: Path, checkpoint: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = subprocess.run("sha256sum *.safetensors | sha256sum", shell=True, cwd=folder, capture_output=True, text=True)
    assert made.stdout.split()[0] == weights_hash(require(folder)) == checkpoint[1]
    hashed, stock = list[Path](), impromptu.io.sha256
    monkeypatch.setattr(impromptu.io, "sha256", lambda path: hashed.append(path) or stock(path))
    verify(folder, checkpoint[1])
    assert hashed == []
    first = require(folder)[0]
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=checkpoint[1]):
        verify(folder, checkpoint[1])
    assert len(hashed) == len(require(folder))


def test_without_a_named_hash_the_refusal_says_which_it_is(folder: Path, checkpoint: tuple[Path, str]) -> None:
    with pytest.raises(ParamsError, match=f"vla.checkpoint_sha256: {checkpoint[1]}"):
        load("impromptu", driver_options(vla_section(folder, None), 1, str))


def test_all_that_is_missing_is_named_with_the_command_that_fetches_it(folder: Path) -> None:
    for name in ("tokenizer.json", "model-00002-of-00006.safetensors"):
        (folder / name).unlink()
    command = rf"hf download aaaaaap/ImpromptuVLAModel --include '3B_AD/\*' --local-dir {folder.parent}"
    with pytest.raises(DataError, match=rf"no tokenizer.json, model-00002-of-00006.safetensors.*{command}"):
        require(folder)
    with pytest.raises(DataError, match=r"no such folder.*3B_AD_finetune"):
        require(folder / "nowhere")


@pytest.mark.parametrize("name", ["model.safetensors", "adapter_model.safetensors"])
def test_weights_beside_those_of_the_index_are_hashed_too(
    name: str, folder: Path, checkpoint: tuple[Path, str]
) -> None:
    shutil.copy(folder / FIRST, folder / name)
    with pytest.raises(DataError, match=checkpoint[1]):
        verify(folder, checkpoint[1])


def test_weights_that_would_be_loaded_unverified_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "other/model.safetensors"}))
    with pytest.raises(DataError, match="transformers_weights"):
        require(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match="adapter_config.json"):
        require(folder)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    gone = index["weight_map"]["model.layers.0.mlp.down_proj.weight"]
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != gone}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / gone).unlink()
    with pytest.raises(DataError, match=r"missing or of another shape"):
        load("impromptu", driver_options(vla_section(folder, weights_hash(require(folder))), 1, str))
