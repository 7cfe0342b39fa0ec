"""The input of a sweep, from Hydra and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from bench.cli.launchers import LauncherChoice
from bench.config import Config, build


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The input of a sweep.

    Attributes:
        loader: Hydra's configuration loader with its search path.
        master: the configuration that Hydra composed without the axes.
        params: default axes, ``hydra.sweeper.params``.
        arguments: task overrides of the command line.
        launcher: the configured launcher.
    """

    loader: ConfigLoader
    master: DictConfig
    params: Mapping[str, str]
    arguments: Sequence[str]
    launcher: LauncherChoice

    @property
    def config_dirs(self) -> tuple[str, ...]:
        """The ``--config-dir`` folders."""
        sources = [source for source in self.loader.get_sources() if source.provider == "command-line"]
        return tuple(source.path.removeprefix("file://") for source in sources)

    @cached_property
    def without_axes(self) -> Config:
        """The configuration that Hydra composed without the axes, checked."""
        return build(to_plain(self.master))


def to_plain(cfg: DictConfig) -> dict[Any, Any]:
    """Return plain containers of everything except Hydra's own settings, which cannot always be resolved here."""
    names = [str(name) for name in cfg if name != "hydra"]
    plain = OmegaConf.to_container(OmegaConf.masked_copy(cfg, names), resolve=True)
    assert isinstance(plain, dict)
    return plain
