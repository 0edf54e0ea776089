"""Either host behind a driver: the same plans, by methods before the language model and inside it."""

from pathlib import Path

import numpy as np
import pytest
from one_frame import make_frame
from PIL import Image

from stages.params import read_params
from stages.pruning import base
from stages.vla.base import DriverOptions, Plan
from stages.vla.fast.host import FastPrefilled
from stages.vla.fast.vision import GraphTower
from stages.vla.hosts import CapturedHost
from stages.vla.toy import Driver

ROOT = Path(__file__).parents[2]
METHODS = {"none": {}, "row_prior": {}, "divprune": {}, "vispruner": {"important_ratio": 0.5}, "fastv": {"layer": 1}}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("front"), np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(3)]
    for path in paths:
        coarse = Image.fromarray(random.integers(0, 255, (6, 10, 3), np.uint8))
        coarse.resize((336, 196), Image.Resampling.BICUBIC).save(path)
    return paths


@pytest.fixture(scope="module")
def drivers() -> dict[str, Driver]:
    vla = read_params(ROOT / "params.yaml").vla
    checkpoint = ROOT / vla.checkpoint
    return {host: Driver(DriverOptions(checkpoint, vla.size_px, vla.fit, 2, host=host)) for host in ("eager", "fast")}


def told(plan: Plan) -> tuple[object, ...]:
    return plan.token, plan.answer, plan.parsed, plan.waypoints_m.tolist(), plan.kept.tolist(), plan.tokens_kept


@pytest.mark.parametrize("name", list(METHODS))
def test_plans_are_the_same_by_either_host(drivers: dict[str, Driver], images: list[Path], name: str) -> None:
    frames = [make_frame(path, f"sample-{i}") for i, path in enumerate(images)]
    percents = [0] if name == "none" else [25, 75]
    plans = {host: driver.plan(frames, base.load(name, METHODS[name]), percents) for host, driver in drivers.items()}
    for percent in percents:
        assert list(map(told, plans["fast"][percent])) == list(map(told, plans["eager"][percent]))
    assert any(plan.parsed for plan in plans["eager"][percents[0]])


def test_the_fast_driver_reads_by_captured_steps(drivers: dict[str, Driver], images: list[Path], monkeypatch) -> None:
    driver, read = drivers["fast"], list[object]()
    assert isinstance(driver.tower, GraphTower)
    assert isinstance(driver.host, CapturedHost)
    decode = driver.host.decode

    def seen(prefilled, steps, ends):
        read.append(prefilled)
        return decode(prefilled, steps, ends)

    monkeypatch.setattr(driver.host, "decode", seen)
    driver.plan([make_frame(images[0])], base.load("row_prior", {}), [50])
    assert isinstance(read[0], FastPrefilled)


def test_profiles_name_a_host_that_there_is() -> None:
    assert read_params(ROOT / "params.yaml").vla.host == "eager"
    assert read_params(ROOT / "infra/params/paper.yaml").vla.host == "fast"
