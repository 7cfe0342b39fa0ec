"""The command line: sweeps, resumed runs, launchers, workers, exit codes and the status of a run.

This room connects Hydra with the plan and the runner. It must not measure, and it must not use Triton,
``bench.compare`` or ``bench.ab``. ``--help`` and ``--cfg`` must not import torch, NumPy or pandas.
"""
