"""What is written down for the sender: numbers together, no name that MLflow refuses."""

from pathlib import Path

import pytest

from stages.core.spool import Run, batches


def test_numbers_travel_together_up_to_the_bound_of_mlflow() -> None:
    metrics = [{"kind": "metrics", "body": dict.fromkeys("abcd", 1.0)}] * 600
    table = [{"kind": "table", "body": {}}] * 2
    assert [len(batch) for batch in batches(metrics + table + metrics[:3])] == [250, 250, 100, 1, 1, 3]


def test_a_name_that_mlflow_refuses_is_refused_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "1.jsonl", {})
    with pytest.raises(ValueError, match="no name MLflow takes"):
        run.metrics({"loss (%)": 1.0})
    run.end("FINISHED")
