"""A nuScenes data set as typed frames and maps: `base` has the records, `nuscenes` reads them through the devkit.

`layout` has its files, and the truth beside a drawn one; `world` draws the small data set of the default.
"""
