from pathlib import Path

import pytest

from stages.core.errors import MachineError
from stages.training import engine


def test_a_machine_without_a_compiler_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Builder:
        NAME = "helper"

        def load(self, verbose: bool) -> None:
            raise RuntimeError("Unable to JIT load the helper op due to ninja not being installed.")

    accelerator = type("Accelerator", (), {"create_op_builder": lambda self, name: Builder()})()
    deepspeed = type("DeepSpeed", (), {})()
    deepspeed.accelerator = type("Module", (), {"get_accelerator": staticmethod(lambda: accelerator)})
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "helper").mkdir()
    (tmp_path / "helper" / "lock").touch()
    with pytest.raises(MachineError, match=r"g\+\+ and ninja"):
        engine._build_helper(deepspeed)
    assert not (tmp_path / "helper" / "lock").exists()  # left by a killed build; torch would wait for it for ever
