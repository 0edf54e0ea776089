"""Grounding DINO and SAM for `masks.grounded_sam`: `pipeline` reads images and chooses boxes, `models` has the nets."""
