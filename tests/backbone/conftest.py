import pytest
from tiny import make_tiny_model

from stages.backbone.qwen import Model


@pytest.fixture
def tiny_model() -> Model:
    return make_tiny_model()
