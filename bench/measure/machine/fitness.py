"""Find reasons to doubt the times of a point, each with advice. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.measure.machine.gpu_state import THROTTLED
from bench.measure.machine.host_state import cores_of_others
from bench.rows.result import Answer

OK = "ok"
DOUBTFUL = "doubtful"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits beyond which times are doubtful.

    Attributes:
        others_ratio: processors that other processes keep busy / usable processors.
        rel_half_width: relative half-width of the interval around a median.
        frequency_drop: relative fall of the processor frequency over a block.
    """

    others_ratio: float = 0.25
    rel_half_width: float = 0.05
    frequency_drop: float = 0.2


LIMITS = Limits()

CHANGED_BY_OTHERS = "changed_by_others"
"""Code of the reason if other processes release memory of the device while it is read."""

ADVICE = {
    "busy_cpu": "stop other programs, or wait until the machine is idle",
    "heavy_processes": "stop other programs, or wait until the machine is idle",
    "governor": "as root: cpupower frequency-set -g performance",
    "frequency": "let the processor cool down, or plug the laptop in",
    "throttled": "let the card cool down, or improve its cooling and power supply",
    "power_cap": "the card is at its power limit. Compare only with runs that were at the limit too",
    "other_gpu_processes": "stop the other processes on the GPU (nvidia-smi lists them)",
    "ecc": "the card had uncorrectable memory errors. Do not use these numbers, and report the card",
    "discarded": "samples were discarded because the clocks were held down. Run again on a cool card",
    CHANGED_BY_OTHERS: "stop the other processes on the GPU, which released memory during the reading",
    "noisy": "give the point more time (measure.max_s=10) or a quieter machine",
    "unwatched": "install nvidia-ml-py and a driver with NVML, so that clocks and other processes can be read",
}
"""Advice for each reason."""


def doubts(
    blocks: Iterable[Mapping[str, Any]], *, usable_cores: int, heavy_processes: int, on_cuda: bool
) -> dict[str, str]:
    """Return reasons for doubt in the telemetry of a point's blocks, by code, each code once.

    Args:
        blocks: ``before`` and ``after`` of each block of samples.
        usable_cores: processors that the point may run on.
        heavy_processes: number of other processes that computed in the meantime.
        on_cuda: whether a GPU does the work. Then only the load of the host is checked, because a
            slow host matters less.
    """
    found: dict[str, str] = {}
    for block in blocks:
        before, after = block["before"], block["after"]
        _add(found, _host_doubts(before["host"], after["host"], usable_cores, on_cuda))
        if on_cuda:
            _add(found, _gpu_doubts(before, after))
    if heavy_processes and not on_cuda:
        found["heavy_processes"] = f"{heavy_processes} other processes computed in the meantime"
    return found


def sample_doubts(name: str, rel_half_width: float, discarded_ratio: float) -> dict[str, str]:
    """Return reasons for doubt in the samples of column ``name``."""
    found = {}
    if rel_half_width > LIMITS.rel_half_width:
        found["noisy"] = f"the median of {name} is known to ± {rel_half_width:.0%} only"
    if discarded_ratio > 0:
        found["discarded"] = f"{discarded_ratio:.0%} of the samples were discarded"
    return found


def fitness_columns(found: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns of the row for these reasons."""
    text = "; ".join(f"{code}: {reason}" for code, reason in found.items())
    return {"fitness": DOUBTFUL if found else OK, "fitness_reasons": text or None}


def with_memory_doubt(answer: Answer) -> Answer:
    """Return the result of a point, doubtful if other processes released memory of its device during the reading."""
    reason = answer.null_reasons.get("device_memory_bytes", "")
    if not reason.startswith(CHANGED_BY_OTHERS):
        return answer
    earlier = answer.values.get("fitness_reasons")
    answer.values |= {"fitness": DOUBTFUL, "fitness_reasons": f"{earlier}; {reason}" if earlier else reason}
    answer.null_reasons.pop("fitness_reasons", None)
    return answer


def _add(found: dict[str, str], more: Mapping[str, str]) -> None:
    for code, reason in more.items():
        found.setdefault(code, reason)


def _host_doubts(before: dict[str, Any], after: dict[str, Any], usable_cores: int, on_cuda: bool) -> dict[str, str]:
    found = {}
    others = cores_of_others(before, after)
    if others > LIMITS.others_ratio * usable_cores:
        found["busy_cpu"] = f"other processes kept {others:.1f} of {usable_cores} processors busy"
    if on_cuda:
        return found
    if after["governor"] not in (None, "performance"):
        found["governor"] = f"the processor's governor is {after['governor']}"
    frequencies = before["frequency_mhz"], after["frequency_mhz"]
    if all(frequencies) and frequencies[1] < (1 - LIMITS.frequency_drop) * frequencies[0]:
        found["frequency"] = f"the processor fell from {frequencies[0]:.0f} to {frequencies[1]:.0f} MHz"
    return found


def _gpu_doubts(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    if "gpu" not in before or "gpu" not in after:
        return {"unwatched": f"NVML reports nothing about the GPU ({after.get('gpu_problem', 'it has ended')})"}
    old, new = before["gpu"], after["gpu"]
    found = {}
    events = {event for state in (old, new) for event in state["clock_events"] or ()}
    if events & THROTTLED:
        found["throttled"] = f"clocks held down by {', '.join(sorted(events & THROTTLED))}"
    if "sw_power_cap" in events:
        found["power_cap"] = "clocks held down by the power limit"
    others = max(old["other_processes"] or 0, new["other_processes"] or 0)
    if others:
        found["other_gpu_processes"] = f"{others} other processes on the GPU"
    errors = (new["ecc_uncorrected"] or 0) - (old["ecc_uncorrected"] or 0)
    if errors > 0:
        found["ecc"] = f"{errors} uncorrectable memory errors"
    if new["clock_events"] is None and new["sm_clock_mhz"] is None:
        found["unwatched"] = "NVML reports neither clocks nor clock events of this device"
    return found
