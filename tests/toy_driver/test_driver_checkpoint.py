"""The published driver is a checkpoint like any other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.backbone.qwen import build_model
from stages.pruning import base
from stages.toy_driver.checkpoint import config, publish
from stages.vla.base import DriverOptions
from stages.vla.prefill import decode, prefill
from stages.vla.toy import Driver, prompt_text

SIZE_PX = (84, 56)
VISION = {"depth": 2, "width": 32, "mlp": 32, "heads": 2, "full_attention": [1]}
LANGUAGE = {"layers": 2, "width": 32, "mlp": 32, "heads": 2, "kv_heads": 1, "rope_theta": 4.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build_model(config(VISION, LANGUAGE | {"mrope_section": [2, 3, 3]}, 128))
    publish(model, tmp_path, SIZE_PX, {"l2_m": 1.0})
    return tmp_path


def test_transformers_own_processor_and_generate_answer_like_the_host(folder: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    picture = np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    parts = [{"type": "image"}, {"type": "text", "text": prompt_text(4.2)}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    inputs = processor(text=[text], images=[Image.fromarray(picture)], return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]

    driver = Driver(DriverOptions(folder, SIZE_PX, "stretch", 1))
    prompt = driver.prompt([4.2])
    view = driver.view(torch.from_numpy(picture).permute(2, 0, 1)[None], ("a",), prompt)
    prefilled = prefill(driver.model, view, base.load("none", {}), 6, prompt)
    assert torch.equal(decode(driver.model, prefilled, 8, ends=(-1,))[0], answer)
