"""What a key of params.yaml means."""

from typing import Annotated

import typer

EXAMPLE = "fastdrive explain train_pruner.alpha"


def explain(
    key: Annotated[str, typer.Argument(help="As in params.yaml, parts with dots; without it all keys.")] = "",
) -> None:
    """Print value, type, bounds and meaning of a key, and which stages run again when it changes."""
    from pathlib import Path

    import yaml

    from stages.core.params import read_params
    from stages.keys import fields, reruns

    params = read_params()
    if not key:
        typer.echo("\n".join(fields.keys(params)))
        return
    told = fields.key(params, key)
    graph = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    direct, after = reruns.reruns(graph, params.model_dump(mode="json"), key)
    value = yaml.safe_dump(told.value, default_flow_style=True).removesuffix("...\n").strip()
    lines = {"value": value, "type": told.kind, "says": told.says or "-"}
    lines |= {"runs again": ", ".join(direct) or "nothing", "then": ", ".join(after) or "nothing"}
    typer.echo("\n".join([told.name, *(f"  {name:11} {line}" for name, line in lines.items())]))
