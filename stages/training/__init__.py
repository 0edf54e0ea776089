"""Training of ReconPruner by reconstruction, with DeepSpeed; used in training only.

The paper's mathematics: `losses` (Eq. 3-5, 7-8), `decoder` (Eq. 6), `model`. Then `trainer` (the loop), `resume` (its
checkpoints), `engine` (processes, DeepSpeed), `data` and `loading` (images and masks), `token_cache`, `evaluation`.
"""
