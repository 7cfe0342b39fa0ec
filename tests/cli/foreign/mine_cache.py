"""An implementation from outside the repository, beside its YAML. An option makes it misbehave."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from impls.caches.contiguous import Contiguous
from impls.interface import Batch, Policy, Unsupported
from impls.spec import ModelSpec


class Mine(Contiguous):
    """The contiguous cache with a planted fault."""

    def __init__(
        self, model: ModelSpec, policy: Policy, *, device: str, num_layers: int, options: Mapping[str, Any]
    ) -> None:
        super().__init__(model, policy, device=device, num_layers=num_layers, options={})
        self.fault = options["fault"]
        if self.fault == "unsupported":
            raise Unsupported("mine takes no such case")

    def decode(self, layer: int, query: Tensor, batch: Batch) -> Tensor:
        out = super().decode(layer, query, batch)  # type: ignore[arg-type]
        if self.fault == "exit":
            os._exit(3)
        if self.fault == "raise":
            raise RuntimeError("planted")
        return out * 1.01 if self.fault == "wrong" else out
