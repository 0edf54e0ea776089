"""A nuScenes data set as typed frames and maps: `base` has the records, `nuscenes` reads them through the devkit.

`world` draws the small data set of the default; `oracle` reads the truth that lies beside it.
"""
