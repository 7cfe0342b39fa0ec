"""One column of a row, and what its name tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["identity", "exact", "timing", "memory", "record"]
Better = Literal["lower", "higher"] | None
FRACTION_TOLERANCE: Final = 1e-9
"""See ``Column.rel_tolerance``."""


@dataclass(frozen=True)
class Column:
    """One column: its kind says how two runs are compared on it."""

    name: str
    kind: Kind
    better: Better
    meaning: str

    @property
    def dtype(self) -> str:
        """The pandas type: the unit in a number's name tells whole numbers from fractions."""
        if self.name.endswith(FRACTIONS):
            return "Float64"
        return "Int64" if self.name.endswith(WHOLE) else "object"

    @property
    def unit(self) -> str:
        """What its name says that it is counted in; empty for a plain count or a text.

        >>> Column("decode_us", "timing", "lower", "").unit
        'µs'
        """
        return next((unit for suffix, unit in UNITS.items() if self.name.endswith(suffix)), "")

    @property
    def rel_tolerance(self) -> float:
        """Relative difference up to which two values of kind ``exact`` are equal: 0 for whole numbers and texts.

        A fraction is a quotient of integers, divided once, and does not depend on the processor. Rows of earlier
        versions hold fractions that were summed in floating point, and differ from it in the last digits.

        >>> [Column(name, "exact", "lower", "").rel_tolerance for name in ("itl_ms_mean", "steps")]
        [1e-09, 0.0]
        """
        return FRACTION_TOLERANCE if self.kind == "exact" and self.dtype == "Float64" else 0.0

    @property
    def judged(self) -> bool:
        """Whether comparing two runs gives a verdict on it."""
        return self.kind == "exact" or (self.better is not None and self.name not in DERIVED and not self.on_request)

    @property
    def on_request(self) -> bool:
        """Whether it is judged only where it is asked for by name: it tells again what another column tells."""
        return self.name.endswith("_us_min")


FRACTIONS = ("_mean", "_us", "_us_low", "_us_high", "_us_min", "_us_per_ktoken", "_ns_per_op", "_ratio", "_gbps",
             "_tflops", "_error", "_s", "_p50", "_p90", "_p99", "_per_token")  # fmt: skip
WHOLE = ("_bytes", "_seqs", "_tokens", "_requests", "_samples", "_calls", "_retries", "bytes_read", "page_size",
         "replicate", "seed", "layers_allocated", "admissions", "appends", "frees", "preemptions", "steps", "_pages",
         "pages_taken_admit", "pages_taken_append", "num_gpus")  # fmt: skip

UNITS = {
    "_us_per_ktoken": "µs per 1,000 tokens",
    "_ns_per_op": "ns",
    "_us": "µs",
    "_us_low": "µs",
    "_us_high": "µs",
    "_us_min": "µs",
    "_ms": "ms",
    "_ms_mean": "ms",
    "_ms_p50": "ms",
    "_ms_p90": "ms",
    "_ms_p99": "ms",
    "_per_s": "per s",
    "_s": "s",
    "_bytes": "bytes",
    "_gbps": "GB/s",
    "_tflops": "TFLOP/s",
    "_tokens": "tokens",
    "_pages": "pages",
    "_seqs": "sequences",
    "_requests": "requests",
    "_ratio": "ratio",
}
"""Suffix of a column's name: unit. The first that fits counts."""

DERIVED = ("prefill_us_per_ktoken", "prefill_us_low", "prefill_us_high", "prefill_spread_ratio", "prefill_tflops",
           "swap_out_gbps", "swap_in_gbps", "copy_pages_gbps",
           "decode_us_per_ktoken", "decode_us_low", "decode_us_high", "decode_spread_ratio", "achieved_gbps",
           "ceiling_ratio", "ceiling_gbps", "process_memory_bytes", "polled_peak_rise_bytes", "torch_difference_bytes",
           "process_difference_bytes", "device_difference_bytes")  # fmt: skip
"""Times and bytes that repeat another column or speak of the machine: judging them would count a change twice."""


def columns(kind: Kind, better: Better, **meanings: str) -> list[Column]:
    """Columns of one kind and direction, by name, with their meanings."""
    return [Column(name, kind, better, meaning) for name, meaning in meanings.items()]
