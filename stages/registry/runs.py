"""Runs of stages in MLflow, as the registry's commands ask for them."""

from collections.abc import Iterator, Mapping
from typing import Any

from stages.registry.versions import Registry, Version, pages

FROM_TRAINING = ("seed", "hardware", "pipeline.fingerprint", "prefect.flow_run_id", "prefect.flow_run.page")


def training_run(registry: Registry, experiment: str, weights_sha256: str) -> dict[str, str]:
    """Return tags that name the newest finished run which made these weights: `train.run_id`, its commit, seed, machine
    and flow. Empty when there is none.
    """
    query = f"tags.`weights.sha256` = '{weights_sha256}'"
    found = [run for run in all_runs(registry, experiment, query) if run.info.status == "FINISHED"]
    if not found:
        return {}
    newest = max(found, key=lambda run: run.info.start_time)
    tags = {key: newest.data.tags[key] for key in FROM_TRAINING if key in newest.data.tags}
    return tags | {"train.run_id": newest.info.run_id, "train.git.commit": newest.data.tags.get("git.commit", "")}


def all_runs(registry: Registry, experiment: str, asked: str = "") -> Iterator[Any]:
    """Runs of the experiment that MLflow's query `asked` finds."""
    with registry.answering("the runs of stages"):
        found = registry.client.get_experiment_by_name(experiment)
        if found:
            search = registry.client.search_runs
            yield from pages(lambda token: search([found.experiment_id], asked, page_token=token))


def measure(registry: Registry, version: Version, values: Mapping[str, float]) -> None:
    """Show numbers on the page of the version's model. MLflow keeps them with a run: without one there are none."""
    if not version.run_id:
        return
    with registry.answering(f"to log the scores of version {version.number}"):
        for key, value in values.items():
            registry.client.log_metric(version.run_id, key, value, model_id=version.tags["model.id"])
