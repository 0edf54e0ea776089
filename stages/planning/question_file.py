"""Impromptu-VLA's question file, read as a list of samples."""

import json
from pathlib import Path
from typing import Any

from stages.core import io
from stages.core.errors import DataError, ParamsError

KEY = "score_plans.samples_sha256"


def read_questions(path: Path, sha256: str | None) -> Any:
    """The JSON value in `path`.

    DVC sees params and not this file, so its hash stands in params: raises ParamsError where it does not, DataError
    when the file is missing, another one, or no JSON.
    """
    if not path.is_file():
        then = "copy it there, or edit score_plans.samples in params.yaml"
        raise DataError(expected=f"the question file {path}", got="no such file", fix=then)
    came = io.sha256(path)
    if sha256 is None:
        wanted = f"{KEY}, the hash of {path}"
        raise ParamsError(expected=wanted, got="null", fix=f"set {KEY} to {came} in params.yaml")
    if came != sha256:
        then = f"bring back that file, or set {KEY} to what came"
        raise DataError(expected=f"{path} with sha256 {sha256}", got=came, fix=then)
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        then = "name another file in score_plans.samples"
        raise DataError(expected=f"JSON in {path}", got=str(error), fix=then) from error
