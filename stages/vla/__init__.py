"""Drivers on Qwen2.5-VL, and pruning in any Qwen2.5-VL.

Start with `base` and one driver: `toy` or `impromptu`. How tokens leave a prompt: `cutting` (arithmetic, then hooks on
the language model), `prefill` (the pipeline's prompts) and `prune` (anyone's `model.generate`: `fastdrive.prune`).
"""
