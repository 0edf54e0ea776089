"""What the pinned versions of Prefect, its server and DVC take and do not take."""

import subprocess
import sys
from pathlib import Path

from test_repository import leaves

from stages.core.params import read_params

ROOT = Path(__file__).parents[2]

ASK = """
import prefect.server.api.server
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
app = FastAPI()
@app.post("/")
def limited(limit: int = Body(None), offset: int = Body(0)): return limit
assert TestClient(app).post("/", json={"limit": None, "offset": 0}).status_code == 200
"""


def test_the_server_of_prefect_imports_and_takes_the_nulls_of_its_client() -> None:
    """fastapi 0.154 and later break the import, 0.151 and later refuse nulls (`prefect deploy` ends with 422), while
    every check of dependencies stays green.
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", ASK], cwd=ROOT, check=True)


def test_no_param_has_a_name_that_dvc_leaves_out_of_the_key_of_its_run_cache() -> None:
    """DVC 3.67 drops `size` and `nfiles` from it wherever they stand: with `size: 4` it gave back what 3 had made."""
    names = {part for key in leaves(read_params(ROOT / "params.yaml").model_dump()) for part in key.split(".")}
    assert not names & {"size", "nfiles"}
