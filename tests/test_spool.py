"""What is written down for the sender: numbers together, no name that MLflow refuses."""

from stages.spool import batches


def test_numbers_travel_together_up_to_the_bound_of_mlflow() -> None:
    metrics = [{"kind": "metrics", "body": dict.fromkeys("abcd", 1.0)}] * 600
    table = [{"kind": "table", "body": {}}] * 2
    assert [len(batch) for batch in batches(metrics + table + metrics[:3])] == [250, 250, 100, 1, 1, 3]
