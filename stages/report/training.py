"""How each trained pruner learned: curves, figures on held-out images, and pictures of what it keeps and rebuilds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import DataError
from stages.core.params import Params, TrainPruner
from stages.report.ablations import Tables
from stages.report.figures import svg, training_curves
from stages.report.inputs import TRAINING, Inputs, trained_by
from stages.report.page import Gallery, Picture, Section, Words
from stages.report.saliency import saliency_pictures
from stages.report.sections import plain

Row = dict[str, Any]

COLUMNS = {
    "Trained pruner": "{method}",
    "Images": "{held_out_images}",
    "Loss": "{loss:.4f}",
    "foreground": "{loss_fore:.4f}",
    "background": "{loss_back:.4f}",
    "Keep share": "{keep_share:.3f}",
    "AUC": "{auc:.3f}",
    "AUC, row prior": "{auc_row_prior:.3f}",
    **{f"Recall, {percent} % pruned": f"{{recall_{percent}:.3f}}" for percent in (25, 50, 75)},
}
CAPTION = (
    "Last evaluation on images of training scenes kept from training. Losses of different objectives are no common "
    "scale. Keep share: tokens with S > 0. AUC: how S ranks tokens under the masks' foreground above the others; the "
    "row prior looks at no image and prefers lower rows. Recall: share of foreground tokens kept."
)
SAYS = (
    "On held-out images {method} ranks foreground tokens with AUC {auc} (the row prior, which looks at no image: "
    "{auc_row_prior}) and is positive for {keep_share} of all tokens."
)
PAINTED = "Below: the foreground is painted from the kept tokens, the background from the dropped ones."
KEPT = {"image": "image", **{f"kept_{percent}": f"kept at {percent} % pruned" for percent in (25, 50, 75)}}
STRIPS = {
    "reconstruction": "from the top: image, foreground as target and as painted, background as target",
    "kept_tokens": "from the top: image, kept at 25, 50 and 75 % pruned",
}


def training_section(inputs: Inputs, params: Params) -> Section:
    """All trained pruners in one table, the first with all its examples, the others with their last pictures."""
    main, *others = params.grid.trained
    blocks: list[Any] = [
        plain(CAPTION, held_out_rows(inputs.training), COLUMNS, "training"),
        _curves(main, inputs, params),
        Words(_in_words(main, inputs.training[main], params.training(main))),
        *examples(main, params.training(main)),
    ]
    for name in others:
        blocks += [_curves(name, inputs, params), last_strips(name, params.training(name))]
    return Section("Training and reconstructions", blocks)


def held_out_rows(training: Mapping[str, Row]) -> list[Row]:
    """A row of figures on held-out images for each trained pruner."""
    return [
        {"method": name, "held_out_images": record.get("held_out_images"), **record["held_out"]}
        for name, record in training.items()
    ]


def written(inputs: Inputs) -> Tables:
    """The table of held-out figures; none without a trained pruner."""
    return {"training": (held_out_rows(inputs.training), COLUMNS)} if inputs.training else {}


def _in_words(name: str, record: Row, options: TrainPruner) -> str:
    figures = record["held_out"]
    shown = {key: f"{figures[key]:.3f}" if figures[key] is not None else "–" for key in ("auc", "auc_row_prior")}
    share = "–" if figures["keep_share"] is None else f"{figures['keep_share']:.0%}"
    words = SAYS.format(method=name, **shown, keep_share=share)
    return f"{words} {PAINTED}" if options.objective == "reconstruction" and options.adversarial else words


def _curves(name: str, inputs: Inputs, params: Params) -> Gallery:
    loss = "loss (Eq. 7)" if params.training(name).objective == "reconstruction" else "loss of the mask"
    alt = f"Training curves of {name}: losses of both branches; share of kept tokens and AUC for foreground"
    curves = Picture(svg(training_curves(inputs.histories[name], loss)), "svg+xml", alt)
    return Gallery([curves, *saliency_pictures(name, inputs.histories[name])], title=name)


def painted_parts(options: TrainPruner) -> dict[str, str]:
    """The pictures that a pruner's training leaves of what it rebuilds, and what they show; none without pixels."""
    if options.objective != "reconstruction":
        return {}
    fore = {"image": "image", "target_fore": "target, foreground", "fore": "rebuilt from kept tokens"}
    back = {"target_back": "target, background", "back": "rebuilt from dropped tokens"}
    return fore | back if options.adversarial else fore


def examples(name: str, options: TrainPruner) -> list[Gallery]:
    """A row per held-out image: targets and reconstructions, then the tokens kept. Raises DataError where one lacks."""
    folder = TRAINING / name
    rows = sorted(path.name.removesuffix("_image.png") for path in folder.glob("example_*_image.png"))
    if not rows:
        raise DataError(expected=f"examples in {folder}", got="none", fix=f"run `{trained_by(name)}`")
    painted = painted_parts(options)
    galleries = [_gallery(name, rows, painted, "What it rebuilds")] if painted else []
    return [*galleries, _gallery(name, rows, KEPT, "What it keeps")]


def _gallery(name: str, rows: Sequence[str], parts: Mapping[str, str], title: str) -> Gallery:
    pictures = [
        _picture(TRAINING / name / f"{row}_{part}.png", name, f"held-out {row.replace('_', ' ')}: {caption}", caption)
        for row in rows
        for part, caption in parts.items()
    ]
    return Gallery(pictures, across=len(parts), title=title)


def last_strips(name: str, options: TrainPruner) -> Gallery:
    """The pictures of the last evaluation: what is rebuilt, where pixels are, and what is kept; a column per image."""
    folder = TRAINING / name / "epochs"
    kinds = [kind for kind in STRIPS if kind != "reconstruction" or painted_parts(options)]
    pictures = []
    for kind in kinds:
        paths = sorted(folder.glob(f"{kind}_*.png"))  # steps have seven digits
        if not paths:
            raise DataError(expected=f"{folder}/{kind}_<step>.png", got="none", fix=f"run `{trained_by(name)}`")
        step = int(paths[-1].stem.rsplit("_", 1)[1])
        what = STRIPS[kind] + (" and as painted" if kind == "reconstruction" and options.adversarial else "")
        pictures.append(_picture(paths[-1], name, f"{name} at step {step}, {what}", f"step {step}, {what}"))
    return Gallery(pictures, across=len(pictures))


def _picture(path: Path, name: str, alt: str, caption: str) -> Picture:
    if not path.is_file():
        raise DataError(expected=f"{path}", got="no such file", fix=f"run `{trained_by(name)}`")
    return Picture(path.read_bytes(), "png", alt, caption)
