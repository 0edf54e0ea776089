"""The JSON schema of params.yaml."""

import json

import typer

EXAMPLE = "fastdrive schema > params.schema.json"


def schema() -> None:
    """Print the JSON schema of params.yaml; editors complete and check with it.

    Write `# yaml-language-server: $schema=params.schema.json` at the top of params.yaml.
    """
    from stages.core.params import Params

    typer.echo(json.dumps(Params.model_json_schema(), indent=2))
