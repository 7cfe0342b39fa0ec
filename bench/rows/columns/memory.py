"""Columns: what the memory process read, and what is known of the row as a whole."""

from __future__ import annotations

from bench.rows.columns.column import Column, columns

MEMORY: tuple[Column, ...] = (
    *columns(
        "memory",
        "lower",
        torch_allocated_peak_bytes="torch.cuda.max_memory_allocated of the memory process",
        torch_reserved_peak_bytes="torch.cuda.max_memory_reserved of the memory process",
        process_memory_bytes="NVML's memory of the memory process; on a CPU its peak resident set",
        process_memory_rise_bytes="the same above its idle reading after warm-up; compare it with storage_bytes",
        device_memory_bytes="NVML (v2) used memory of the device above the idle reading",
        polled_peak_rise_bytes="the highest of device_memory_bytes (on a CPU: of the rise) seen every measure.poll_ms",
        torch_difference_bytes="torch_allocated_peak_bytes − pool_bytes, where all layers are allocated",
        process_difference_bytes="process_memory_rise_bytes − pool_bytes, where all layers are allocated",
        device_difference_bytes="device_memory_bytes − pool_bytes, where all layers are allocated",
    ),
    *columns(
        "record",
        None,
        torch_reserved_idle_bytes="torch.cuda.memory_reserved at the idle reading, part of no rise",
        torch_alloc_retries="times that torch's allocator had to give memory back and ask again",
        process_memory_source="nvml_pid; nvml_only_new_process: NVML lists host PIDs, and one process appeared after "
        "our context; resident_set",
        process_memory_confidence="high, or low where the process was not found by its PID",
        device_memory_source="nvml_v2; nvml_v1: includes what the driver reserves; mem_get_info (why): NVML does not "
        "tell",
    ),
    *columns(
        "record",
        None,
        fitness="ok, or doubtful: something on the machine may have disturbed the times of this row",
        fitness_reasons="what, as `code: sentence; …`, from readings before and after each block of samples",
        harness_s="wall seconds of this row that measured nothing: process start, planning, recording",
        measured_s="wall seconds inside the point's processes, waiting for the other side's turns included",
        null_reasons="why a field is null, as JSON: {column: reason}",
        log="the processes' output, relative to the run folder",
        repro_command="re-runs exactly this point from the repository's root",
        experiment="name of the file in conf/experiment/ that the command named; null where the sweep was written out",
    ),
)
