"""The small driver: its pool of drawn images, its training, its evaluation, the published checkpoint."""

import json
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import LANGUAGE, VISION, make_tiny_model
from torch import Generator, Tensor, nn

from stages import train_driver
from stages.backbone.qwen import build_model, load_tokenizer
from stages.core.errors import DataError, ParamsError
from stages.core.io import read_json, read_manifest, write_manifest
from stages.core.params import Params, read_params
from stages.pruning import base
from stages.scenes.world import scenario
from stages.toy_driver import pool
from stages.toy_driver.checkpoint import config, publish
from stages.toy_driver.evaluation import Evaluation, blind_plans, errors_m, rankings, write_blind_floor
from stages.toy_driver.phases import plan_target, soft_labels, subset
from stages.toy_driver.pool import CLASSES, NAMES, NO_PLAN, Dataset, class_shares, draw_pool, draw_scene
from stages.toy_driver.trainer import Run, Schedule, fit, learning_rate
from stages.vla.base import DriverOptions
from stages.vla.plans import read_blind_floor
from stages.vla.prefill import Prompt, decode, prefill
from stages.vla.toy import Driver, prompt_text, write_tokenizer

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SIZE_PX = (84, 56)
DRAW = partial(draw_scene, frames=3, drawn_px=(112, 63), size_px=SIZE_PX)
TINY = {
    "pool_scenes": 4,
    "holdout_scenes": 2,
    "frames_per_scene": 2,
    "vision": {"depth": 2, "width": 32, "mlp": 32, "heads": 2, "full_attention": [1]},
    "tower_steps": 2,
    "language_regression_steps": 2,
    "language_answer_steps": 2,
    "batch_size": 2,
    "threads": 1,
}


def test_class_shares_of_a_token_are_of_its_own_pixels() -> None:
    classes = np.array([[1, 1, 0, 2], [1, 1, 0, 0]], np.uint8)  # two tokens of 2 x 2 pixels
    assert class_shares(classes, (1, 2)).tolist() == [[0, 1, 0, 0, 0, 0], [0.75, 0, 0.25, 0, 0, 0]]
    assert pool.EVENTS == scenario.EVENTS


def test_a_stopped_pool_goes_on_with_the_scenes_that_are_written(tmp_path: Path) -> None:
    """Front images have plans, side images none."""
    whole = draw_pool(tmp_path / "whole", DRAW, (41, 42), 1)
    assert (whole.images.shape, whole.shares.shape) == ((8, 56, 84, 3), (8, 6, 6))
    np.testing.assert_allclose(whole.shares.astype(float).sum(axis=2), 1, atol=2e-3)
    assert np.flatnonzero(whole.event == NO_PLAN).tolist() == [3, 7]
    seeds = []

    def stop_at_the_second(seed: int) -> pool.Pool:
        seeds.append(seed)
        if len(seeds) == 2:
            raise KeyboardInterrupt
        return DRAW(seed)

    with pytest.raises(KeyboardInterrupt):
        draw_pool(tmp_path / "part", stop_at_the_second, (41, 42), 1)
    resumed = draw_pool(tmp_path / "part", stop_at_the_second, (41, 42), 1)
    assert seeds == [41, 42, 42]
    assert all(np.array_equal(getattr(resumed, name), getattr(whole, name)) for name in NAMES)


def test_subsets_are_ascending_and_of_all_sizes() -> None:
    counts = set()
    for seed in range(40):
        kept = subset((3, 4), 3, Generator().manual_seed(seed))
        assert bool((kept.diff(dim=1) > 0).all())
        counts.add(kept.shape[1])
    assert min(counts) <= 3
    assert max(counts) == 12


def test_the_plan_target_of_constant_velocity_is_zero() -> None:
    speed = torch.tensor([4.0])
    straight = torch.stack([4.0 * torch.arange(1, 7) / 2, torch.zeros(6)], dim=1)[None]
    assert plan_target(straight, speed).abs().max() == 0
    assert plan_target(straight + 3, speed).unique().tolist() == [1]  # in units of 3 m


def test_soft_labels_spread_over_neighbouring_numbers_only() -> None:
    table = soft_labels(torch.tensor([1, 2, 3]), torch.tensor([4, 5]), 7)
    torch.testing.assert_close(table.sum(1), torch.ones(7))
    assert table[0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert table[2, 1] == table[2, 3] > 0
    assert table[2, 4] == 0


ROWS = torch.arange(1, 3)


def make_line() -> nn.ParameterList:
    return nn.ParameterList([torch.zeros(2)])


def losses_of(line: nn.ParameterList, stop_at: int | None = None):
    steps = count()

    def losses(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        if next(steps) == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(2, generator=generator) * rows
        return {"loss": ((line[0] * x).sum() - x.sum()) ** 2}

    return losses


def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.toy_driver.trainer.SAVE_EVERY_S", 0.0)
    schedule, steps = Schedule(steps=30, lr=0.05, seed=1, warmup=3), []
    whole, stopped, resumed = make_line(), make_line(), make_line()
    fit("whole", whole, losses_of(whole), ROWS, schedule, Run(tmp_path, lambda values, i: None, 1))
    with pytest.raises(KeyboardInterrupt):
        fit("part", stopped, losses_of(stopped, 17), ROWS, schedule, Run(tmp_path, lambda values, i: None, 1))
    fit("part", resumed, losses_of(resumed), ROWS, schedule, Run(tmp_path, lambda values, i: steps.append(i), 1))
    assert torch.equal(resumed[0], whole[0])
    assert steps == [20, 29]


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path: Path) -> None:
    line = make_line()
    nan = {"loss": line[0].sum() * torch.nan}
    with pytest.raises(DataError, match="at step 0"):
        fit("line", line, lambda rows, g: nan, ROWS, Schedule(3, 0.1, 1), Run(tmp_path, lambda values, i: None, 1))


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    schedule = Schedule(steps=100, lr=1.0, seed=0, warmup=10)
    assert [learning_rate(step, schedule) for step in (0, 10, 100)] == pytest.approx([0.1, 1.0, 0.02])


def test_the_error_is_the_mean_of_those_at_one_two_and_three_seconds() -> None:
    plan = torch.zeros(1, 6, 2)
    plan[0, :, 0] = torch.tensor([9.0, 1.0, 9.0, 2.0, 9.0, 6.0])  # steps of 0.5 s; those in between do not count
    assert errors_m(plan, torch.zeros(1, 6, 2)).tolist() == [3.0]


def test_the_blind_guess_is_the_median_at_the_nearest_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.toy_driver.evaluation.NEIGHBOURS", 3)
    speed = torch.tensor([1.0, 1.1, 1.2, 9.0])
    future = torch.tensor([1.0, 2.0, 30.0, 500.0])[:, None, None].expand(4, 6, 2)
    assert blind_plans(speed, future, torch.tensor([1.0]))[0].unique().tolist() == [2.0]


def test_the_written_floor_is_read_back(tmp_path: Path) -> None:
    speed = torch.tensor([0.0, 0.3])
    write_blind_floor(tmp_path, speed, torch.ones(2, 6, 2) * 1.234)
    write_manifest(tmp_path, [tmp_path / "blind_floor.json"], {})
    floor = read_blind_floor(tmp_path)
    assert floor.speeds_mps.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert set(floor.waypoints_m.flatten().tolist()) == {1.23}


def evaluation(folder: Path) -> Evaluation:
    """Six scenes of two rows, the last four held out; a row's only feature is its number. Three tokens side by side."""
    rows, words = torch.arange(12), torch.zeros(12, 1, dtype=torch.int64)
    features = rows[:, None, None].expand(12, 3, 1).half()
    shares = np.zeros((12, 3, CLASSES), np.float16)
    shares[:, 0, 1], shares[:, 1, 0], shares[:, 2, 4] = 1, 1, 0.02  # road; nothing; a far light
    truth = (torch.zeros(12, 6, 2), torch.zeros(12), torch.zeros(12, dtype=torch.int64))
    dataset = Dataset(features, (1, 3), Prompt(words, words), words, *truth, rows // 2, shares)
    write_tokenizer(folder)
    return Evaluation(make_tiny_model(), load_tokenizer(folder), dataset, torch.arange(4, 12))


def test_references_are_of_another_scene_and_of_the_truth(tmp_path: Path) -> None:
    """The other image is of another held-out scene; the oracle keeps a far light before road, the inverse neither."""
    asked = evaluation(tmp_path)
    seen = asked.others()
    assert seen.tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    assert bool((asked.dataset.scene[seen] != asked.dataset.scene[asked.rows]).all())
    ranks = rankings(asked.dataset)
    assert ranks["oracle"](5).argsort(descending=True).tolist() == [2, 0, 1]
    assert ranks["inverse"](5).argsort(descending=True).tolist() == [1, 0, 2]
    assert not torch.equal(ranks["random"](5), ranks["random"](6))


def test_transformers_own_processor_and_generate_answer_like_the_host(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.manual_seed(0)
    publish(build_model(config(VISION, LANGUAGE, 128)), tmp_path, SIZE_PX, {"l2_m": 1.0})
    picture = np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)
    processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True)
    parts = [{"type": "image"}, {"type": "text", "text": prompt_text(4.2)}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    inputs = processor(text=[text], images=[Image.fromarray(picture)], return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]

    driver = Driver(DriverOptions(tmp_path, SIZE_PX, "stretch", 1))
    prompt = driver.prompt([4.2])
    view = driver.view(torch.from_numpy(picture).permute(2, 0, 1)[None], ("a",), prompt)
    prefilled = prefill(driver.model, view, base.load("none", {}), 6, prompt)
    assert torch.equal(decode(driver.model, prefilled, 8, ends=(-1,))[0], answer)


def test_the_committed_driver_sees_tells_the_oracle_from_its_inverse_and_is_small() -> None:
    """By its figures on held-out scenes of its pool."""
    figures = json.loads((ROOT / "metrics/train_driver.json").read_text())
    sees, pruned = figures["sees"], figures["pruned"]
    assert sees["none"]["l2_m"] <= 2 / 3 * min(sees["other_image"]["l2_m"], sees["blind_floor"]["l2_m"])
    assert sees["none"]["parsed_share"] >= 0.995
    assert all(event["difference_high"] < 0 for event in figures["events"].values())  # better than blind on each
    assert pruned["oracle_50"]["difference_m"] <= 0.2
    assert pruned["inverse_50"]["difference_low"] > pruned["random_50"]["difference_high"]
    for percent in (25, 50, 75):
        oracle, random, inverse = (pruned[f"{name}_{percent}"]["l2_m"] for name in ("oracle", "random", "inverse"))
        assert oracle <= random <= inverse
    assert (ROOT / "models/driver/model.safetensors").stat().st_size <= 8e6


def params(folder: Path, **changes: object) -> Params:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["train_driver"] |= TINY | changes
    tree["train_driver"]["language"] |= {"layers": 2, "width": 64, "mlp": 64, "mrope_section": [2, 3, 3]}
    tree["make_world"]["workers"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return read_params(folder / "params.yaml")


@pytest.mark.process
def test_the_driver_is_trained_evaluated_and_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_driver.main(params(tmp_path))
    notes = read_manifest(Path("models/driver"), "dvc repro train_driver")
    figures = read_json(Path("metrics/train_driver.json"), "dvc repro train_driver")
    assert notes["held_out"] == figures
    assert set(figures["sees"]) == {"none", "other_image", "blind_floor"}
    assert figures["trained"]["tower"]["samples"] == 4
    assert not list(Path("runs").glob("*/*/*.pt"))


def test_scenes_of_the_data_set_are_not_trained_on(tmp_path: Path) -> None:
    seed = read_params(ROOT / "params.yaml").make_world.seed
    with pytest.raises(ParamsError, match="pool_seed"):
        train_driver.main(params(tmp_path, pool_seed=seed))
