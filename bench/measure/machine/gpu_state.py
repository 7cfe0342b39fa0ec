"""Read the state and settings of a GPU from NVML. Missing values are ``None``. Nothing is ever set. No torch."""

from __future__ import annotations

from typing import Any

from bench.measure.machine.nvml import Nvml, NvmlProblem

CLOCK_EVENTS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
"""Bits of NVML's clock-event reasons."""

THROTTLED = frozenset({"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})
"""Reasons for which samples are discarded. A power cap is the normal state of a card under load."""

SM_CLOCK, MEMORY_CLOCK, CORE_SENSOR = 1, 2, 0
UNCORRECTED, SINCE_BOOT = 1, 0


def gpu_state(nvml: Nvml, handle: Any) -> dict[str, Any]:
    """Return clocks, temperature, power, clock events, other processes and ECC errors."""
    power_mw = _ask(nvml, "nvmlDeviceGetPowerUsage", handle)
    return {
        "sm_clock_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, SM_CLOCK),
        "memory_clock_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, MEMORY_CLOCK),
        "temperature_c": _ask(nvml, "nvmlDeviceGetTemperature", handle, CORE_SENSOR),
        "power_w": None if power_mw is None else power_mw / 1000,
        "clock_events": clock_events(nvml, handle),
        "other_processes": _other_processes(nvml, handle),
        "ecc_uncorrected": _ask(nvml, "nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, SINCE_BOOT),
    }


def gpu_facts(nvml: Nvml, handle: Any) -> dict[str, Any]:
    """Return the settings of the card, for the record of a run."""
    limit_mw = _ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    ecc, mig = _ask(nvml, "nvmlDeviceGetEccMode", handle), _ask(nvml, "nvmlDeviceGetMigMode", handle)
    return {
        "driver": _ask(nvml, "nvmlSystemGetDriverVersion"),
        "gpu_ecc": None if ecc is None else bool(ecc[0]),
        "gpu_mig": None if mig is None else bool(mig[0]),
        "gpu_power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "gpu_max_sm_clock_mhz": _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, SM_CLOCK),
        "gpu_max_memory_clock_mhz": _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, MEMORY_CLOCK),
        "gpu_persistence": _ask(nvml, "nvmlDeviceGetPersistenceMode", handle),
        "gpu_state": gpu_state(nvml, handle),
    }


def clock_events(nvml: Nvml, handle: Any) -> list[str] | None:
    """Return the reasons why the clocks are below their maximum, in words."""
    mask = _ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle)
    if mask is None:  # the function name of drivers before 535
        mask = _ask(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return None if mask is None else [name for bit, name in CLOCK_EVENTS.items() if mask & bit]


def is_throttled(nvml: Nvml, handle: Any) -> bool:
    """Return whether heat or a power brake holds the clocks down now."""
    return bool(THROTTLED & set(clock_events(nvml, handle) or ()))


def _other_processes(nvml: Nvml, handle: Any) -> int | None:
    """Return the number of compute processes minus one, which is ours under any PID."""
    try:
        return max(0, len(nvml.processes(handle)) - 1)
    except NvmlProblem:
        return None


def _ask(nvml: Nvml, function: str, *arguments: Any) -> Any:
    try:
        answer = nvml.call(function, *arguments)
    except NvmlProblem:
        return None
    return answer.decode() if isinstance(answer, bytes) else answer
