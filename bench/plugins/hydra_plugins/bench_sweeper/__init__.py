"""The sweeper that Hydra finds; what it does is in ``bench.sweep``."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BenchSweeper(Sweeper):
    """Plans the sweep and hands its jobs to whichever launcher was chosen."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = dict(params or {})
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before ``sweep``."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the whole sweep; raises ``SystemExit`` with its exit code."""
        from bench.sweep import Request, sweep

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        raise SystemExit(
            sweep(
                Request(
                    loader=self.hydra_context.config_loader,
                    master=self.config,
                    params=self.params,
                    arguments=arguments,
                    launcher=self.launcher,
                )
            )
        )
