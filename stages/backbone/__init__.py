"""Qwen2.5-VL through transformers' own classes: `qwen` loads and builds models, `vision` runs the frozen tower.

`tokens` has the token arithmetic that the whole project shares, and the letters of its tensor shapes.
"""
