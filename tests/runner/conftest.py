"""The scripted NVML of ``tests/support/nvml.py``."""

from __future__ import annotations

from tests.support.nvml import ask, libraries

__all__ = ["ask", "libraries"]
