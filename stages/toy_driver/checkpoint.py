"""The small driver as a checkpoint in Hugging Face layout: config, weights, tokenizer, processor, manifest last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.backbone.qwen import FRAMES, MEAN, MERGE, PATCH_PX, STD, Model, encoder_fingerprint
from stages.core.io import write_json, write_manifest, write_text
from stages.vla.toy import END, IMAGE, PAD, VIDEO, VISION_END, VISION_START, VOCABULARY, before_text, write_tokenizer


def config(vision: dict[str, Any], language: dict[str, Any], positions: int) -> dict[str, Any]:
    """Return the fields of config.json, a narrow Qwen2.5-VL, from train_driver.vision and train_driver.language."""
    word = {name: VOCABULARY.index(name) for name in (PAD, END, IMAGE, VIDEO, VISION_START, VISION_END)}
    text = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": language["width"],
        "intermediate_size": language["mlp"],
        "num_hidden_layers": language["layers"],
        "num_attention_heads": language["heads"],
        "num_key_value_heads": language["kv_heads"],
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "max_position_embeddings": positions,
        "bos_token_id": None,
        "eos_token_id": word[END],
        "pad_token_id": word[PAD],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": language["rope_theta"],
            "mrope_section": list(language["mrope_section"]),
        },
    }
    tower = {
        "depth": vision["depth"],
        "hidden_size": vision["width"],
        "intermediate_size": vision["mlp"],
        "num_heads": vision["heads"],
        "out_hidden_size": language["width"],
        "fullatt_block_indexes": list(vision["full_attention"]),
        "window_size": 112,
        "tokens_per_second": 2,
    }
    return {
        "text_config": text,
        "vision_config": tower,
        "image_token_id": word[IMAGE],
        "video_token_id": word[VIDEO],
        "vision_start_token_id": word[VISION_START],
        "vision_end_token_id": word[VISION_END],
        "tie_word_embeddings": True,
    }


def publish(model: Model, folder: Path, size_px: tuple[int, int], figures: Mapping[str, object]) -> None:
    """Write weights, configs, tokenizer and processor, then the manifest with the held-out figures."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    # Image preparation and chat template as `AutoProcessor` reads them; a larger image is scaled down to these pixels.
    sizes = {"patch_size": PATCH_PX, "merge_size": MERGE, "temporal_patch_size": FRAMES}
    limits = {"min_pixels": (MERGE * PATCH_PX) ** 2, "max_pixels": size_px[0] * size_px[1]}
    colours = {"image_mean": list(MEAN), "image_std": list(STD)}
    names = {"processor_class": "Qwen2_5_VLProcessor", "image_processor_type": "Qwen2VLImageProcessor"}
    write_json(folder / "preprocessor_config.json", {**names, **sizes, **limits, **colours})
    picture = f"{before_text()}{IMAGE}{VISION_END}"
    each = f"{{% if part['type'] == 'image' %}}{picture}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
    message = f"{{% for part in message['content'] %}}{each}{{% endfor %}}"
    write_text(folder / "chat_template.jinja", f"{{% for message in messages %}}{message}{{% endfor %}}")
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    write_manifest(folder, files, {"encoder": encoder_fingerprint(model), "held_out": dict(figures)})
