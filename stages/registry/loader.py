"""Loading of a registered pruner by MLflow. A copy of this file lies beside the weights, with the code of stages/:

mlflow.pyfunc.load_model("models:/reconpruner@champion").predict(tokens)

It runs when the model is loaded, so load only what you trust; `fastdrive.load` runs nothing, it reads the safetensors.
"""

from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class TokenScores(PythonModel):
    """Scores of visual tokens; higher is kept."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights. MLflow passes `context` by its name."""
        from stages.pruning import checkpoint
        from stages.pruning.recon import build

        self._module, _ = checkpoint.load(
            Path(context.artifacts["pruner"]), build, "python -m stages.registry.register"
        )
        self._module.eval().requires_grad_(False)

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: None = None) -> np.ndarray:
        """Tokens as the vision tower's merger gives them, on their grid (B, h, w, D), to scores (B, h, w)."""
        import torch

        tokens = torch.as_tensor(np.asarray(model_input, np.float32))
        B, h, w, D = tokens.shape
        return np.asarray(self._module(tokens.view(B, h * w, D), (h, w)).view(B, h, w).numpy())


set_model(TokenScores())
