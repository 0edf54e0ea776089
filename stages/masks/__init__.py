"""Foreground masks of camera images: nuScenes-FG.

Start at `base` (what an annotator is) and `mask_set` (what is on disk). `job` cuts the work into shards and makes one;
`nuscenes_geometry` and `grounded_sam` are the annotators; `verify` checks a finished set.
"""
