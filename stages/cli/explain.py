"""What a key of params.yaml means."""

from typing import Annotated

import typer

EXAMPLE = "fastdrive explain train_pruner.alpha"


def explain(
    key: Annotated[str, typer.Argument(help="As in params.yaml, parts with dots; all keys by default.")] = "",
) -> None:
    """Print value, type, bounds and meaning of a key, and which stages run again when it changes."""
    from pathlib import Path

    import yaml

    from stages.cli import explain_key
    from stages.core.params import read_params

    params = read_params()
    if not key:
        typer.echo("\n".join(explain_key.keys(params)))
        return
    found = explain_key.find(params, key)
    direct, after = explain_key.reruns(Path.cwd(), key)
    value = yaml.safe_dump(found.value, default_flow_style=True).removesuffix("...\n").strip()
    lines = {"value": value, "type": found.kind, "meaning": found.meaning or "-"}
    lines |= {"runs again": ", ".join(direct) or "nothing", "then": ", ".join(after) or "nothing"}
    typer.echo("\n".join([found.name, *(f"  {name:11} {line}" for name, line in lines.items())]))
