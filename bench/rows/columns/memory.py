"""Columns: what the memory process read, and facts of the row as a whole."""

from __future__ import annotations

from functools import partial

from bench.rows.columns.column import ANY_SIGN, Column, Topic
from bench.rows.columns.pool import TENSORS

_level = partial(Column, kind="memory", better="lower", source="memory", scenarios=(*TENSORS, "capacity"))
_difference = partial(_level, tables=("memory",), bounds=ANY_SIGN, scenarios=("capacity",))
_source = partial(Column, kind="record", source="memory", scenarios=(*TENSORS, "capacity"))
_record = partial(Column, kind="record", source="harness")

MEMORY = Topic(
    title="Memory levels, fitness and the record",
    columns=(
        _level(
            name="torch_allocated_peak_bytes",
            meaning="torch.cuda.max_memory_allocated of the memory process",
        ),
        _level(
            name="torch_reserved_peak_bytes",
            meaning="torch.cuda.max_memory_reserved of the memory process",
        ),
        _level(
            name="process_memory_bytes",
            derived_from=("process_memory_rise_bytes",),
            meaning="memory of the memory process in NVML. On a CPU its peak resident set",
        ),
        _level(
            name="process_memory_rise_bytes",
            heading="process rise",
            tables=("memory",),
            place=30,
            marks_best=True,
            bounds=ANY_SIGN,
            meaning="process_memory_bytes above the idle reading after warm-up, to be compared with storage_bytes",
        ),
        _level(
            name="device_memory_bytes",
            heading="device",
            tables=("memory",),
            place=31,
            bounds=ANY_SIGN,
            meaning="used memory of the device in NVML (v2) above the idle reading",
        ),
        _level(
            name="polled_peak_rise_bytes",
            bounds=ANY_SIGN,
            derived_from=("device_memory_bytes", "process_memory_rise_bytes"),
            meaning="largest reading of device_memory_bytes, every measure.poll_ms. On a CPU: of "
            "process_memory_rise_bytes",
        ),
        _difference(
            name="torch_difference_bytes",
            heading="torch − pool",
            place=32,
            derived_from=("torch_allocated_peak_bytes", "pool_bytes"),
            meaning="torch_allocated_peak_bytes − pool_bytes, if all layers are allocated",
        ),
        _difference(
            name="process_difference_bytes",
            heading="process − pool",
            place=33,
            derived_from=("process_memory_rise_bytes", "pool_bytes"),
            meaning="process_memory_rise_bytes − pool_bytes, if all layers are allocated",
        ),
        _difference(
            name="device_difference_bytes",
            heading="device − pool",
            place=34,
            derived_from=("device_memory_bytes", "pool_bytes"),
            meaning="device_memory_bytes − pool_bytes, if all layers are allocated",
        ),
        _source(
            name="torch_reserved_idle_bytes",
            meaning="torch.cuda.memory_reserved at the idle reading. It is part of no rise",
        ),
        _source(
            name="torch_alloc_retries",
            meaning="times that torch's allocator released memory and allocated again",
        ),
        _source(
            name="process_memory_source",
            meaning="nvml_pid. nvml_only_new_process: NVML lists PIDs of the host, and one process appeared after "
            "the context of this one. resident_set",
        ),
        _source(
            name="process_memory_confidence",
            meaning="high, or low if the process was not found by its PID",
        ),
        _source(
            name="device_memory_source",
            meaning="nvml_v2. nvml_v1: includes memory that the driver reserves. mem_get_info (reason): NVML has no "
            "reading",
        ),
        Column(
            name="fitness",
            kind="record",
            tables=("report",),
            place=99,
            scenarios=TENSORS,
            meaning="ok, or doubtful: something on the machine may have disturbed the times of this row",
        ),
        Column(
            name="fitness_reasons",
            kind="record",
            scenarios=TENSORS,
            meaning="causes of doubt as `code: sentence` in a list, from readings before and after each block of "
            "samples",
        ),
        _record(
            name="harness_s",
            meaning="wall seconds of this row without measurement: process start, planning, recording",
        ),
        _record(
            name="measured_s",
            meaning="wall seconds in the point's processes, waiting for the other side's turns included",
        ),
        _record(name="null_reasons", may_be_null=True, meaning="reason of each null field, as JSON: {column: reason}"),
        _record(name="log", may_be_null=True, meaning="output of the processes, relative to the run folder"),
        _record(name="repro_command", meaning="command that runs exactly this point, from the repository's root"),
        _record(
            name="experiment",
            may_be_null=True,
            meaning="name of the file in conf/experiment/ that the command named. Null if the sweep was written out",
        ),
    ),
)
