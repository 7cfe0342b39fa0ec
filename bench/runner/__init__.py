"""Run planned jobs: rounds, processes, leases, progress and the assembly of rows.

This room must not import Hydra, ``bench.cli`` or ``bench.reports``. Only the processes of a point import torch.
"""
