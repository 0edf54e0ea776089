"""The small driver as a checkpoint folder in Hugging Face layout, complete only with its manifest."""

from collections.abc import Mapping
from pathlib import Path

from stages.backbone.patches import FRAMES, MEAN, MERGE, PATCH_PX, STD
from stages.backbone.qwen import Model, encoder_fingerprint
from stages.core.io import write_json, write_manifest, write_text
from stages.vla.toy_text import IMAGE, VISION_END, before_text, write_tokenizer


def publish(model: Model, folder: Path, size_px: tuple[int, int], figures: Mapping[str, object]) -> None:
    """Write weights, configs, tokenizer and processor; the manifest comes last and carries the held-out figures."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    write_processor(folder, size_px)
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    notes = {"encoder": encoder_fingerprint(model), "held_out": dict(figures)}
    write_manifest(folder, files, notes)


def write_processor(folder: Path, size_px: tuple[int, int]) -> None:
    """What `AutoProcessor.from_pretrained` reads: image preparation and chat template.

    An image of `size_px` goes through unscaled; larger ones are scaled down to at most as many pixels.
    """
    pixels = size_px[0] * size_px[1]
    sizes = {"patch_size": PATCH_PX, "merge_size": MERGE, "temporal_patch_size": FRAMES}
    limits = {"min_pixels": (MERGE * PATCH_PX) ** 2, "max_pixels": pixels}
    colours = {"image_mean": list(MEAN), "image_std": list(STD)}
    names = {"processor_class": "Qwen2_5_VLProcessor", "image_processor_type": "Qwen2VLImageProcessor"}
    write_json(folder / "preprocessor_config.json", {**names, **sizes, **limits, **colours})
    picture = f"{before_text()}{IMAGE}{VISION_END}"
    each = f"{{% if part['type'] == 'image' %}}{picture}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
    message = f"{{% for part in message['content'] %}}{each}{{% endfor %}}"
    write_text(folder / "chat_template.jinja", f"{{% for message in messages %}}{message}{{% endfor %}}")
