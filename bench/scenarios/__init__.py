"""What one point does: decode, prefill, swap, serving, capacity and so on. Each has a YAML file in ``conf/scenario/``.

This room must not import Hydra, triton, ``bench.plan`` or ``bench.runner``. A scenario is independent of sweeps.
"""
