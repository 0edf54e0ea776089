"""The registered model in MLflow: registering a trained pruner, judging it, promoting it, rolling it back, its lineage.

Start with `gate.py` (the pure rules), then `register.py` and `promotion.py`. Imports no torch: Prefect flows call it in
process.
"""
