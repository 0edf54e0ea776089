"""The small driver as a checkpoint folder in Hugging Face layout, complete only with its manifest."""

from collections.abc import Mapping
from pathlib import Path

from stages.backbone.qwen import Model, encoder_fingerprint
from stages.files import write_manifest
from stages.vla.toy_text import write_tokenizer


def publish(model: Model, folder: Path, figures: Mapping[str, float]) -> None:
    """Write weights, configs and tokenizer; the manifest comes last and carries the held-out figures."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    notes = {"encoder": encoder_fingerprint(model), "held_out": dict(figures)}
    write_manifest(folder, files, notes)
