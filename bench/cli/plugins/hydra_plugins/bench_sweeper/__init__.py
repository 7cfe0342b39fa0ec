"""Hydra plugin ``hydra/sweeper=bench``. It calls ``bench.cli.sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class BenchSweeper(Sweeper):
    """Plans a sweep and passes its jobs to the configured launcher."""

    def __init__(self, params: dict[str, str] | None = None, max_batch_size: int | None = None) -> None:
        self.params = dict(params or {})
        self.max_batch_size = max_batch_size
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's objects. Hydra calls this before ``sweep``."""
        self.hydra_context, self.config, self.task_function = hydra_context, config, task_function

    def make_launcher(self, folder: Path) -> Launcher:
        """Return the configured launcher. It writes its files to ``folder``."""
        assert self.hydra_context is not None
        assert self.config is not None
        assert self.task_function is not None
        with open_dict(self.config):
            self.config.hydra.sweep.dir = str(folder)
        return Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the whole sweep, and raise ``SystemExit`` with its exit code."""
        from bench.cli.launchers import LauncherChoice, require_plugin
        from bench.cli.request import SweepRequest
        from bench.cli.sweep import sweep

        assert self.hydra_context is not None
        assert self.config is not None
        target = str(self.config.hydra.launcher._target_)
        require_plugin(target)
        request = SweepRequest(
            loader=self.hydra_context.config_loader,
            master=self.config,
            params=self.params,
            arguments=arguments,
            launcher=LauncherChoice(target=target, make=self.make_launcher, max_batch_size=self.max_batch_size),
        )
        raise SystemExit(sweep(request))
