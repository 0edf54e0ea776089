"""What pruning saves: FLOPs in closed form (flops.py), held against torch's counter (counted.py), and
milliseconds and memory of interleaved variants on this machine (latency.py). Start with flops.py.
"""
