"""tmp"""
from prefect import flow


@flow(name="retrain")
def retrain(when: str = "changed") -> str:
    return when
