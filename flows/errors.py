"""What a flow ends with when a command of it ended badly. Apart from Prefect, whose import takes seconds."""


class StageError(RuntimeError):
    """A command of stages/ ended badly; the message is what it said last, `code` how it ended."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


class RefusedError(StageError):
    """The gate refused, another was first, or there is nothing to go back to."""
