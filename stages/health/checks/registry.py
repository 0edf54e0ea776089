"""The registry of models: can it be read, and who is champion? Past MLflow, whose import takes seconds."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

from stages.core.params import PARAMS_FILE, read_params
from stages.core.secrets import masked
from stages.core.tracking import SQLITE
from stages.health.asking import ask, mlflow_authorization
from stages.health.finding import DATA, Finding

ALIASES = "select alias || ' is ' || version from registered_model_aliases where name = ? order by alias"


def check(root: Path) -> Iterator[Finding]:
    """The aliases of the registered model, by the SQLite file or the server of MLFLOW_TRACKING_URI."""
    name = read_params(root / PARAMS_FILE).registry.name
    url = os.environ.get("MLFLOW_TRACKING_URI", "") or f"{SQLITE}{root / 'mlflow.db'}"
    if url.startswith(SQLITE):
        yield from _of_file(Path(url.removeprefix(SQLITE)), name)
    elif urlsplit(url).scheme in ("http", "https"):
        yield from _of_server(url.rstrip("/"), name)
    else:
        yield Finding("registry", "unknown", f"{masked(url)} is not asked here", fix="`fastdrive lineage champion`")


def _of_file(path: Path, name: str) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding("registry", "ok", f"no {path.name} yet; the first run makes it")
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=3)) as database:
            found = database.execute("pragma quick_check(1)").fetchone()[0]
            aliases = [row[0] for row in database.execute(ALIASES, [name])]
    except sqlite3.DatabaseError as error:
        found, aliases = str(error), []
    if found == "ok":
        yield Finding("registry", "ok", f"{name}: {', '.join(aliases) or 'no alias yet'}")
        return
    busy = "locked" in found
    then = (
        "`fastdrive doctor` again in a while" if busy else f"`mv {path} {path}.damaged`: the next run makes a new one"
    )
    came = f"{path.name}: {found}"
    yield Finding("registry", "unknown" if busy else "bad", came, "a whole SQLite file", then, code=DATA)


def _of_server(url: str, name: str) -> Iterator[Finding]:
    asked = f"{url}/api/2.0/mlflow/registered-models/get?name={quote(name)}"
    status, said = ask(asked, mlflow_authorization())
    if status == 200 or (status == 404 and "RESOURCE_DOES_NOT_EXIST" in said):
        yield Finding("registry", "ok", f"{name}: {_aliases(said) if status == 200 else 'no version yet'}")
    else:
        then = "`make serve` in another shell, or `unset MLFLOW_TRACKING_URI`"
        yield Finding("registry", "bad", f"{status or masked(said)} from {masked(url)}", "an answer", then)


def _aliases(said: str) -> str:
    try:
        aliases = json.loads(said)["registered_model"].get("aliases", [])
        return ", ".join(f"{one['alias']} is {one['version']}" for one in aliases) or "no alias yet"
    except (ValueError, KeyError, TypeError):
        return "known there"  # a longer answer than is read
