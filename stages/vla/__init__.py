"""Drivers on Qwen2.5-VL, and pruning in any Qwen2.5-VL.

Start with `base` (the contract of a driver), then `driving` and one driver: `toy` or `impromptu`. How tokens leave a
prompt: `cutting` (arithmetic), `reading` (hooks on the language model), `prefill` (the pipeline's prompts) and `prune`
(anyone's `model.generate`: `fastdrive.prune`).
"""
