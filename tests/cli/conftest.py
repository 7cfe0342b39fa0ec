"""Rows of a run folder, and a machine whose torch need not be started."""

from __future__ import annotations

import pytest

from bench.cli import sweep


class NoServer:
    """Takes the place of the fork server of a run that ends before its first point."""

    def __init__(self, *_: object, **__: object) -> None:
        self.server_id = "none"

    def close(self) -> None:
        """Do nothing: no process was started."""


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, for commands that only plan: torch is not started to look for one."""
    monkeypatch.setattr(sweep, "Server", NoServer)
    monkeypatch.setattr(sweep, "probe", lambda _: {"gpu": None, "torch": "of a test"})
