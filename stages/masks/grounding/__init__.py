"""Grounding DINO and SAM for `masks.grounded_sam`: start at `pipeline`.

`dino` (with its text encoder in `bert`) finds boxes by phrases, `boxes` chooses among them, `sam` outlines what is in
them; `pixels` reads images, `checkpoints` official weights.
"""
