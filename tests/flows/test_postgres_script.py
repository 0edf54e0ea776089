"""The script that compose's PostgreSQL runs first: two databases, each closed to the other's user."""

import asyncio
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from postgresql import postgresql, programs

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "infra/docker/postgres.sh"
WORDS = {"mlflow": 'it\'s "one" $word; --', "prefect": "another"}


def test_each_server_has_a_database_that_the_other_cannot_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    with postgresql() as url:
        place = urlsplit(url)
        env = {"PGHOST": "127.0.0.1", "PGPORT": str(place.port), "PGPASSWORD": "p@ss"}
        env |= {"PATH": os.pathsep.join([str(programs()), os.environ["PATH"]])}
        env |= {"POSTGRES_USER": "ann", "POSTGRES_DB": "fast", "MLFLOW_DB_PASSWORD": WORDS["mlflow"]}
        ran = subprocess.run(
            ["bash", SCRIPT], env=env | {"PREFECT_DB_PASSWORD": WORDS["prefect"]}, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        assert WORDS["mlflow"] not in ran.stdout + ran.stderr
        for user, other in (("mlflow", "prefect"), ("prefect", "mlflow")):
            monkeypatch.setenv("PGPASSWORD", WORDS[user])  # as in compose: in no address
            at = f"postgresql://{user}@127.0.0.1:{place.port}"
            asyncio.run(_ask(f"{at}/{user}", "CREATE EXTENSION pg_trgm", "CREATE TABLE mine (n int)"))
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                asyncio.run(_ask(f"{at}/{other}", "SELECT 1"))


async def _ask(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
