"""The published driver is a checkpoint like any other; the committed one sees."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import LANGUAGE, VISION

from stages.backbone.qwen import build_model
from stages.pruning import base
from stages.toy_driver.checkpoint import config, publish
from stages.vla.base import DriverOptions
from stages.vla.prefill import decode, prefill
from stages.vla.toy import Driver, prompt_text

ROOT = Path(__file__).parents[2]
SIZE_PX = (84, 56)


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
