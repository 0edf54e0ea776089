"""Gates of speed: exact counts that hold without a GPU, each a test that fails when its count rises.

| count (design.md, Speed) | where it is held |
| --- | --- |
| SDPA calls per vision forward, 57 x 57 tokens: 88, not 6,304 | tests/backbone/test_vision.py::test_at_1596_px_88_calls_do_the_work_of_6304_with_the_same_bits |
| the same through the tower that drivers and training use | tests/test_speed_gates.py::test_the_tower_of_drivers_attends_88_times |
| one vision encode per sample and pruner, one scoring for all ratios | tests/test_speed_gates.py::test_an_image_is_encoded_once_for_all_ratios_of_a_pruner |
| one prompt read per sample and ratio, logits of the last position alone | tests/test_speed_gates.py::test_the_output_head_sees_one_position_a_row |
| no mask given to SDPA where rows are of equal length | tests/vla/test_no_dense_mask.py::test_the_eager_host_reads_and_answers_without_one |
| the same in the fast host, its kept beginning too | tests/vla/test_no_dense_mask.py::test_the_fast_host_reads_without_one_its_kept_beginning_too |
| an image is encoded once an epoch, and never with the token cache | tests/reconstruction/test_gates.py::test_an_image_is_encoded_once_an_epoch_without_the_cache_and_never_again_with_it |
| one decoder pass per training step for both branches | tests/reconstruction/test_gates.py::test_a_step_runs_the_decoder_once_for_both_branches_and_each_layer_attends_once |
| no host wait between scoring and gather, method by method | tests/efficiency/test_bench_pruning.py::test_no_method_makes_the_host_wait_between_scoring_and_gather |
| the same, no number looked at on the way | tests/efficiency/test_bench_pruning.py::test_no_method_looks_at_a_number_on_its_way |
| the same through the host, cuts inside the model included | tests/efficiency/test_whole_request.py::test_a_pruned_request_costs_what_torch_counts |
| one wait a prompt for the verdict, when all is on its way | tests/test_speed_gates.py::test_the_host_waits_once_and_last |
| no host wait from tokens to gradients in training | tests/reconstruction/test_gates.py::test_no_number_is_asked_of_the_device_from_tokens_to_gradients |
| FLOPs by part equal to the closed form | tests/efficiency/test_flops.py::test_closed_form_equals_the_counter_at_the_true_shapes_in_each_part |
| FLOPs of every method and ratio equal to it, 3B and 7B | tests/efficiency/test_whole_request.py::test_a_pruned_request_costs_what_torch_counts |
"""  # noqa: E501

import ast
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from one_frame import make_frame
from tiny import LANGUAGE, VISION, make_tiny_model

from stages.backbone.qwen import build_model
from stages.backbone.tower import FastTower
from stages.params import read_params
from stages.pruning import base
from stages.pruning.base import Kept
from stages.vla import host
from stages.vla.base import DriverOptions
from stages.vla.host import Prompt, prefill, token_view
from stages.vla.recipe.shape import config
from stages.vla.toy import Driver

ROOT = Path(__file__).parents[1]
BEFORE_THE_MODEL = ("row_prior", "divprune", "vispruner")  # the last has the tower watched


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("front") / "front.png"
    W, H = read_params(ROOT / "params.yaml").vla.size_px
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8))
    return path


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.chdir(ROOT)
    vla = read_params().vla
    return Driver(DriverOptions(Path(vla.checkpoint), vla.size_px, vla.fit, 2))


def test_the_tower_of_drivers_attends_88_times(attention_calls: Callable[[], list[bool]]) -> None:
    depth = {"depth": 32, "full_attention": [7, 15, 23, 31]}
    FastTower(build_model(config(VISION | depth, LANGUAGE, positions=256))).encode(
        torch.zeros(1, 3, 1596, 1596, dtype=torch.uint8)
    )
    assert len(attention_calls()) == 28 * 3 + 4


@pytest.mark.parametrize("name", BEFORE_THE_MODEL)
def test_an_image_is_encoded_once_for_all_ratios_of_a_pruner(driver: Driver, image: Path, name: str) -> None:
    frames = [make_frame(image, f"sample-{i}") for i in range(3)]
    plans = driver.plan(frames, base.load(name, {}), [25, 50, 75])
    assert [len(part) for part in plans.values()] == [3, 3, 3]
    assert driver.tower.encoded_images == 3
    assert driver.scorings == 2  # batches of two and of one


def test_a_pruner_inside_the_model_needs_no_second_look_either(driver: Driver, image: Path) -> None:
    driver.plan([make_frame(image)], base.load("fastv", {"layer": 1}), [25, 50, 75])
    assert (driver.tower.encoded_images, driver.scorings) == (1, 1)


def test_the_output_head_sees_one_position_a_row(driver: Driver, image: Path) -> None:
    seen: list[tuple[int, ...]] = []
    handle = driver.model.lm_head.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[:-1])))
    reads = 0

    def read(module: object, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        nonlocal reads
        reads += kwargs["inputs_embeds"].shape[1] > 1

    other = driver.model.model.language_model.register_forward_pre_hook(read, with_kwargs=True)
    driver.plan([make_frame(image, f"sample-{i}") for i in range(2)], base.load("row_prior", {}), [25, 75])
    handle.remove()
    other.remove()
    assert set(seen) == {(2,)}
    assert reads == 2  # one prompt for each ratio, both samples in it


def test_the_host_waits_once_and_last(monkeypatch: pytest.MonkeyPatch) -> None:
    model, order = make_tiny_model(), list[str]()
    look, read = host.check_verdict, host.language_logits

    def looked(held: torch.Tensor, method: str) -> None:
        order.append("wait")
        look(held, method)

    def was_read(*given: object) -> torch.Tensor:
        order.append("read")
        return read(*given)

    monkeypatch.setattr(host, "check_verdict", looked)
    monkeypatch.setattr(host, "language_logits", was_read)
    view = token_view(torch.randn(1, 6, 24), (2, 3), 2, ("a",), "encoder")
    prompt = Prompt(torch.tensor([[1, 2]]), torch.tensor([[3, 4]]))
    prefill(model, view, Kept(torch.tensor([[0, 2, 5]])), 3, prompt, "the method")
    assert order == ["read", "wait"]


def test_every_gate_that_is_listed_exists() -> None:
    listed = re.findall(r"\| (tests/\S+)::(\w+) \|", __doc__ or "")
    assert len(listed) == 15
    for file, name in listed:
        defined = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
        assert name in defined, f"{file}::{name}"
