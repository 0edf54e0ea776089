"""Grounding DINO and SAM for `masks.grounded_sam`: start at `pipeline`, which also chooses among boxes.

`dino` finds boxes by phrases, `sam` outlines what is in them; `inputs` reads images and official weights.
"""
