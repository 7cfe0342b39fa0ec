"""Tables, reports and figures. Each is a function of rows, so that stored runs can be reported again.

This room must not import torch, triton, Hydra or ``bench.scenarios``, and it must not run a point.
"""
