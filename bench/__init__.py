"""The harness. ``run.py`` is the command, and each folder is a room with one purpose.

A room may import only itself and the rooms before it in this order: ``config``, ``rows``, ``workload``, ``measure``,
``scenarios``, ``plan``, ``runner``, ``reports``, ``cli``, ``compare``, ``ab``. All rooms may import ``impls``.
``tests/test_rooms.py`` checks this.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Root of the repository: it holds ``bench``, ``impls``, ``conf`` and ``results``."""
