"""The drawn world: street scenes simulated from a seed (`scenario`), drawn for six cameras (`drawing`) and written as
a nuScenes data set (`recording`). It is scenery for the default; real data needs none of it.
"""
