"""A snapshot in the layout of a released Impromptu-VLA checkpoint, of a few thousand random weights, and its questions.

Qwen2.5-VL's files, special tokens and chat layout; the tokenizer knows bytes only.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tiny import VISION
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stages.backbone.qwen import build_model
from stages.core.io import sha256, write_json
from stages.core.params import read_params
from stages.toy_driver.checkpoint import config

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>") + (
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LANGUAGE = {"layers": 3, "width": 32, "mlp": 48, "heads": 4, "kv_heads": 2, "rope_theta": 10.0}


def write_snapshot(folder: Path, *, tied: bool = True) -> str:
    """Write it; returns its hash. `tied` as the 3B checkpoint, else as the 7B one."""
    tokenizer = _tokenizer(folder)
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in SPECIAL}
    shape = config(VISION, {**LANGUAGE, "mrope_section": [1, 1, 2]}, positions=4096)
    shape |= {"tie_word_embeddings": tied, "image_token_id": ids["<|image_pad|>"]}
    shape |= {"video_token_id": ids["<|video_pad|>"], "vision_start_token_id": ids["<|vision_start|>"]}
    shape |= {"vision_end_token_id": ids["<|vision_end|>"]}
    end = ids["<|im_end|>"]
    shape["text_config"] |= {"vocab_size": len(tokenizer), "tie_word_embeddings": tied, "eos_token_id": end}
    torch.manual_seed(3)
    model = build_model(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)  # greedy answers then vary with what was read
    model.generation_config.eos_token_id = [end, ids["<|endoftext|>"]]
    model.save_pretrained(folder, max_shard_size="40KB")
    images = json.loads(Path("models/driver/preprocessor_config.json").read_text())
    write_json(folder / "preprocessor_config.json", images | {"min_pixels": 3136, "max_pixels": 12845056})
    lines = "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.glob("*.safetensors")))
    return hashlib.sha256(lines.encode()).hexdigest()


def as_released(folder: Path) -> None:
    """Turn the small files into what transformers 4 wrote beside the released weights: flat config, old names."""
    new = json.loads((folder / "config.json").read_text())
    text = new["text_config"]
    old = {key: value for key, value in text.items() if key not in ("rope_parameters", "model_type", "layer_types")}
    rope = text["rope_parameters"]
    old |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    tower = {key: value for key, value in new["vision_config"].items() if key not in ("rope_parameters", "in_channels")}
    old |= {"vision_config": tower | {"in_chans": 3, "spatial_patch_size": 14}, "torch_dtype": "float32"}
    old |= {key: new[key] for key in new if key not in ("text_config", "vision_config", "dtype")}
    write_json(folder / "config.json", old)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", told | {"tokenizer_class": "Qwen2Tokenizer"})
    write_json(folder / "chat_template.json", {"chat_template": CHAT})
    (folder / "chat_template.jinja").unlink()


def _tokenizer(folder: Path) -> Any:
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    body = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    body.pre_tokenizer, body.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    body.add_special_tokens(list(SPECIAL))
    whole = PreTrainedTokenizerFast(
        tokenizer_object=body, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT
    )
    whole.save_pretrained(folder)
    return whole


def write_questions(path: Path, asked: Sequence[tuple[str, str, str]]) -> str:
    """A question file of (id, file name of the image, text), as LLaMA-Factory has it; returns its hash."""
    entries = [
        {
            "id": token,
            "images": [f"nuscenes/samples/CAM_FRONT/{name}"],
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "<PLANNING></PLANNING>"}],
        }
        for token, name, text in asked
    ]
    path.write_text(json.dumps(entries))
    return sha256(path)


def vla_section(checkpoint: Path, digest: str | None, **changed: Any) -> dict[str, Any]:
    """The section `vla` of params for such a snapshot."""
    whole = read_params(Path(__file__).parents[1] / "params.yaml").vla.model_dump(mode="json")
    named = {"name": "impromptu", "checkpoint": str(checkpoint), "checkpoint_sha256": digest, "size_px": [84, 56]}
    return whole | named | {"answer_tokens": 12} | changed
