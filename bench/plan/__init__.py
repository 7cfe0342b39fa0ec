"""From overrides to a plan: points with keys, predictions, warnings and code hashes.

This room decides what will run. It must not run a point, and it must not import torch, ``bench.runner`` or
``bench.cli``. Only ``expand`` imports Hydra.
"""
