"""The harness: configuration, plan, isolated points, rows, and what is made of rows."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Root of the repository: it holds ``bench``, ``impls``, ``conf`` and ``results``."""
