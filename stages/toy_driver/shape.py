"""The small driver before training: the config.json of a narrow Qwen2.5-VL with the toy's vocabulary."""

from typing import Any

from stages.vla.toy_text import END, IMAGE, PAD, VIDEO, VISION_END, VISION_START, VOCABULARY


def config(vision: dict[str, Any], language: dict[str, Any], positions: int) -> dict[str, Any]:
    """Fields of config.json from the params sections `train_driver.vision` and `train_driver.language`."""
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
