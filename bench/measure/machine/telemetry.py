"""Read host and GPU before and after each block of samples, never inside one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.measure.machine.gpu_state import gpu_state, is_throttled
from bench.measure.machine.host_state import HeavyProcesses, host_state
from bench.measure.machine.nvml import Nvml, NvmlProblem
from bench.measure.turns import turns_of_process

if TYPE_CHECKING:
    import torch


class Telemetry:
    """A ``Watch`` of the machine that runs a point.

    Args:
        uuid: uuid of the CUDA device, as torch reports it. ``None`` on a CPU.
        index: torch's number of the device.
    """

    def __init__(self, uuid: str | None, index: int = 0) -> None:
        self._nvml: Nvml | None = None
        self._handle: Any = None
        self._problem: str | None = None
        self._heavy = HeavyProcesses()
        if uuid is not None:
            try:
                self._nvml = Nvml()
                self._handle = self._nvml.device(uuid, index)
            except NvmlProblem as problem:
                self._nvml, self._problem = None, str(problem)

    @classmethod
    def of(cls, device: torch.device) -> Telemetry:
        """Return the telemetry of a torch device."""
        if device.type != "cuda":
            return cls(None)
        import torch

        return cls(str(torch.cuda.get_device_properties(device).uuid), device.index or 0)

    def read(self) -> dict[str, Any]:
        """Return the state of the host, and of the GPU or the reason why it cannot be read."""
        state: dict[str, Any] = {"host": host_state()}
        if self._nvml is not None:
            state["gpu"] = gpu_state(self._nvml, self._handle)
        elif self._problem is not None:
            state["gpu_problem"] = self._problem
        return state

    def throttled(self) -> bool:
        """Return whether the clocks of the GPU are held down now."""
        return self._nvml is not None and is_throttled(self._nvml, self._handle)

    def heavy_processes(self) -> int:
        """Return how many other processes computed since construction, without those of the other side."""
        turns = turns_of_process()
        return self._heavy.count(() if turns is None else turns.peers)
