"""The model card of a version, as Markdown: its use, its data and licences, what it reached. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.planning.tables import to_markdown

SCORES = {
    "pruned %": "{pruned_percent}",
    "N": "{n}",
    "unparsed": "{unparsed}",
    "L2 avg. cm [95 %]": "{l2_cm_avg:.1f} [{l2_cm_avg_low:.1f}, {l2_cm_avg_high:.1f}]",
    "Collision avg. % [95 %]": "{collision_pct_avg:.2f} [{collision_pct_avg_low:.2f}, {collision_pct_avg_high:.2f}]",
    "Intersection avg. %": "{intersection_pct_avg:.2f}",
    "FLOPs, unpruned / pruned": "{flops_ratio:.2f}",
    "measured speed-up, eager host": "{speedup:.2f}",
}
METHODS = {
    "recon": "ReconPruner: one decoder layer that scores visual tokens, trained by reconstructing both grounds",
    "foreground_only": "ReconPruner trained without the background branch (an ablation)",
    "mask_prediction": "the network of ReconPruner trained to tell foreground (an ablation)",
}
DRAWN = (
    "Learned from and scored on a drawn world (`make_world`), with the small driver of `train_driver`: no image of "
    "nuScenes and no weight of Qwen went in. Trained on those, their licences go along:"
)
REAL = "Learned from and scored on nuScenes, on the tokens of the vision tower named below; their licences go along:"
LICENCES = """\
- Qwen2.5-VL-3B weights: Qwen Research Licence, for research and other non-commercial use.
- nuScenes images, boxes and maps: CC BY-NC-SA 4.0 and the nuScenes terms of use, non-commercial.
- ReconPruner as a method: FastDriveVLA; cite the paper."""
USE = """\
For: choosing, before the language model, which visual tokens a Qwen2.5-VL driving model keeps, with the vision encoder
named below and no other (it is refused by its fingerprint); research on planning from recorded drives.

Not for: driving a vehicle. Its figures are open-loop, against what a person drove, and say nothing of a closed loop,
of other cameras, or of weather and places that the data do not have."""


def card(
    name: str, tags: Mapping[str, str], config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], drawn: bool
) -> str:
    """`rows` are the score rows by prune ratio with flops_ratio and speedup; `drawn` says that the world is made up."""
    origin = {
        "weights (sha256)": "weights.sha256",
        "weights (DVC)": "dvc.md5",
        "commit": "git.commit",
        "params.yaml (sha256)": "params.sha256",
        "packages (sha256 of requirements.lock)": "env.lock.sha256",
        "training run": "train.run_id",
    }
    return model_card(
        f"{name}: {tags.get('pruner')}",
        tags.get("pruner", ""),
        config,
        {"Results": f"Protocol {tags.get('protocol')}; intervals resample scenes.\n\n{to_markdown(rows, SCORES)}"},
        load=f'fastdrive.load("models:/{name}@champion")',
        origin={heading: tags.get(tag, "") for heading, tag in origin.items()},
        drawn=drawn,
    )


def model_card(
    title: str,
    method: str,
    config: Mapping[str, Any],
    sections: Mapping[str, str],
    *,
    load: str,
    origin: Mapping[str, str],
    drawn: bool,
) -> str:
    """Return a card of the pruner with `config`; `sections` by heading stand between its use and its licences."""
    scenes, view = config.get("scenes", {}), config.get("view", {})
    facts = {
        "images learned from": f"{scenes.get('images')} of split {scenes.get('split')}, {scenes.get('version')}",
        "image size": f"{view.get('size_px')} px, {view.get('fit')}",
        "vision encoder": config.get("encoder", ""),
        "masks (sha256 of the manifest)": config.get("masks", ""),
        **origin,
    }
    parts = {
        "Use": USE,
        **sections,
        "Data and licences": f"{DRAWN if drawn else REAL}\n\n{LICENCES}",
        "Load": f"```python\n{load}\n```",
        "Origin": to_markdown([{"what": key, "value": f"`{value}`"} for key, value in facts.items()]),
    }
    text = "\n\n".join(f"## {heading}\n\n{part.strip()}" for heading, part in parts.items())
    return f"# {title}\n\n{METHODS.get(method, f'a pruner trained as {method}')}.\n\n{text}\n"
