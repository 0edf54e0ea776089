"""The card of an exported pruner, as Markdown: what it is for, what it reached, whose licences it carries. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.planning.tables import to_markdown
from stages.registry.card import DRAWN, LICENCES, METHODS, REAL, USE

Row = Mapping[str, Any]

MEASURED = {
    "pruned %": "{pruned_percent}",
    "N": "{n}",
    "L2 avg. cm": "{l2_cm_avg:.1f}",
    "Collision avg. %": "{collision_pct_avg:.2f}",
    "Intersection avg. %": "{intersection_pct_avg:.2f}",
    "FLOPs, unpruned / pruned": "{flops_ratio:.2f}",
}
PARITY = {
    "images": "{images}",
    "grid (h, w)": "{grid}",
    "tokens": "{tokens}",
    "torch.export": "{torch_export:.1e}",
    "ONNX": "{onnx:.1e}",
}
NOTHING = (
    "None: these are not the weights that `dvc.lock` of this checkout names for `models/<pruner>`, so nothing that was "
    "measured is known to be of them."
)
LIMITS = """\
- The scores are right for the tokens of one vision encoder alone, at about the image size named below; `fastdrive.load`
  refuses another encoder, the two graphs cannot.
- The graphs give scores; the caller keeps the K = floor(N (1 - p)) highest, in reading order, with their own position
  ids. They were compared on the CPU in float32, on drawn tokens, at the sizes below and at no others.
- The FLOPs are a closed form at the shapes of Qwen2.5-VL-3B, not a measured time."""
GRAPHS = """\
`scorer.pt2` (torch.export) and `scorer.onnx` (opset {opset}) take `tokens` (B, N, {width}) float32, what the vision
tower's merger gives, in reading order, and `columns`, an int64 scalar, the tokens across the image; they give `scores`
(B, N), higher is kept. B and N are free. Largest difference from the PyTorch module (at most {tolerance:.0e} was
asked):"""
TEXTS = """\
Their texts: the file LICENSE of Qwen/Qwen2.5-VL-3B-Instruct ("Qwen RESEARCH LICENSE AGREEMENT": research or evaluation
only) and the nuScenes terms of use. Read them before passing on weights that were trained on either."""
LOAD = """\
```python
pruner = fastdrive.load("{name}")  # reads model.safetensors and config.json; runs no code of the folder
with fastdrive.prune(model, pruner, percent=50):
    model.generate(**inputs)

scores = torch.export.load("{name}/scorer.pt2").module()(tokens, torch.tensor(columns))
scores = onnxruntime.InferenceSession("{name}/scorer.onnx").run(None, {{"tokens": tokens, "columns": columns}})[0]
```"""
FRONT = """\
---
license: other
license_name: qwen-research-and-cc-by-nc-sa-4.0
library_name: pytorch
tags: [token-pruning, vision-language-action, qwen2_5_vl, nuscenes]
---"""


def card(
    name: str, method: str, config: Mapping[str, Any], measured: Sequence[Row], facts: Mapping[str, Any], *, drawn: bool
) -> str:
    """`measured` are rows by prune ratio, maybe none; `facts` has parity, opset, tolerance and files (name: sha256).

    `drawn` says that the world it learned from is made up.
    """
    scenes, view = config.get("scenes", {}), config.get("view", {})
    origin = {
        "images learned from": f"{scenes.get('images')} of split {scenes.get('split')}, {scenes.get('version')}",
        "image size": f"{view.get('size_px')} px, {view.get('fit')}",
        "vision encoder": config.get("encoder"),
        "masks (sha256 of the manifest)": config.get("masks"),
        **facts["origin"],
        **{f"{file} (sha256)": digest for file, digest in facts["files"].items()},
    }
    graphs = GRAPHS.format(opset=facts["opset"], width=config["layer"]["width"], tolerance=facts["tolerance"])
    parts = [
        FRONT,
        f"# {name}\n\n{METHODS.get(method, method)}.",
        f"## Use\n\n{USE}",
        f"## Limits\n\n{LIMITS}",
        f"## Results\n\n{to_markdown(measured, MEASURED) if measured else NOTHING}",
        f"## Data and licences\n\n{DRAWN if drawn else REAL}\n\n{LICENCES}\n\n{TEXTS}",
        f"## Graphs\n\n{graphs}\n\n{to_markdown(facts['parity'], PARITY)}",
        f"## Load\n\n{LOAD.format(name=name)}",
        "## Where it came from\n\n" + to_markdown([{"what": key, "value": f"`{at}`"} for key, at in origin.items()]),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
