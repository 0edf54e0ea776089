"""`make serve` on one PostgreSQL database, by one setting."""

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest
from postgresql import PASSWORD, postgresql
from stack import serving

pytestmark = pytest.mark.slow


def test_both_servers_work_in_one_database_and_no_sqlite_file_is_made(template: Path, tmp_path: Path) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2-binary is in requirements.lock: make install")
    root = shutil.copytree(template, tmp_path / "project")
    with postgresql() as url:
        with serving(root, FASTDRIVE_DATABASE_URL=url) as stack:
            assert stack.ended(stack.trigger("reproduce")) == "COMPLETED"
            assert PASSWORD not in stack.said.read_text()
        tables = asyncio.run(_tables(url))
    assert {("mlflow", "runs"), ("prefect", "flow_run")} <= tables
    assert {("mlflow", "alembic_version"), ("prefect", "alembic_version")} <= tables
    assert not [name for schema, name in tables if schema == "public"]
    assert not list((root / ".local").rglob("*.db"))
    logs = "".join(path.read_text() for path in (root / ".local/logs").iterdir())
    assert PASSWORD not in logs
    assert "p@ss" not in logs


async def _tables(url: str) -> set[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT schemaname, tablename FROM pg_tables")
        return {(row["schemaname"], row["tablename"]) for row in rows}
    finally:
        await connection.close()
