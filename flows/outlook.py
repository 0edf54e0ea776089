"""What a run would take, shown as a table before it starts."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.stage import StageError, call

KEY = "outlook"


@task(cache_policy=NO_CACHE)
def look_ahead(strict: bool, target: str = "") -> None:
    """The table of `fastdrive plan` as an artifact. `strict`: a StageError (code 3) when the machine has no room for
    it; else a warning, and no run is ever stopped by an estimate that could not be made.

    `target`: one stage, and what it is made from.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "told.json"
        try:
            call("stages.outlook", f"--json={path}", "--", *([target] if target else []))
        except StageError as error:
            if strict and path.is_file():  # it could be made, and says no
                raise
            get_run_logger().warning("before the run: %s", error)
        finally:
            if path.is_file():
                told = json.loads(path.read_bytes())
                create_table_artifact([row["words"] for row in told["rows"]], KEY, told["total"])
