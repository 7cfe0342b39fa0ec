"""The scripted NVML of ``tests/support/nvml.py``."""

from __future__ import annotations

from tests.support.nvml import libraries, under_nvml

__all__ = ["libraries", "under_nvml"]
