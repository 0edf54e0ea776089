"""What every package uses: params, files, errors, MLflow tracking, progress, shards of work, plug-ins, provenance.

Start with params.py (the tree of params.yaml), io.py (atomic files and manifests) and command.py (how a stage starts).
Nothing here imports another package of stages.
"""
