"""The two schemas in a PostgreSQL database: MLflow and Prefect both want a table `alembic_version` of their own."""

import asyncio

import asyncpg

from flows.services import ServeError


def make_schemas(url: str) -> None:
    """`mlflow` and `prefect` where they are not there. Raises ServeError when the database is away or says no."""
    try:
        asyncio.run(_make(url))
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise ServeError(
            f"wanted the PostgreSQL database of FASTDRIVE_DATABASE_URL; got {type(error).__name__}: {error}; "
            "next: start it, or unset FASTDRIVE_DATABASE_URL for SQLite"
        ) from error


async def _make(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        for schema in ("mlflow", "prefect"):
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    finally:
        await connection.close()
