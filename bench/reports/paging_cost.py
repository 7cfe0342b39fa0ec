"""Take the cost of paging apart: layout, indirection, kernel. A pure function of the table.

Two control arms make this possible: the same kernel over adjacent pages, and the same kernel without
a page table.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

PAGED: Final = "paged_triton"
CONTROL: Final = "triton_contiguous"
COSTS: Final = {
    "paging_cost_layout": f"{PAGED}: decode_us / decode_us with page_layout=contiguous",
    "paging_cost_indirection": f"{PAGED} with page_layout=contiguous / {CONTROL}",
    "kernel_cost": f"{CONTROL} / the fastest other implementation without pages",
    "paging_cost_total": f"their product: {PAGED} / the fastest other implementation without pages",
}
"""Each cost, and the times that it divides, among rows that did equal work."""

EQUAL_WORK: Final = ["model", "attention_shape", "dtype", "device", "workload", "num_seqs", "batch_digest",
                     "live_bytes", "timer", "l2_mode"]  # fmt: skip


def paging_costs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the four ratios of each page size and layout of ``paged_triton``, with the median of replicates.

    Rows are divided only if they did equal work: equal lengths (``batch_digest``), attention shape
    and live bytes, with the same timer and L2 state. A cost is null if one of its arms is missing.

    Args:
        table: the rows of a run.
    """
    timed = table[table["status"].eq("ok") & table["decode_us"].notna() & table["scenario"].eq("decode")]
    arms = timed.groupby([*EQUAL_WORK, "implementation", "page_layout", "page_size"], dropna=False)
    medians = arms["decode_us"].median().astype("Float64").reset_index()
    paged = medians[medians["implementation"].eq(PAGED)]
    in_a_row = paged[paged["page_layout"].eq("contiguous")]
    without_pages = medians[medians["page_size"].isna()]
    control = without_pages[without_pages["implementation"].eq(CONTROL)]
    others = without_pages[~without_pages["implementation"].eq(CONTROL)]
    costs = (
        paged.merge(_least(in_a_row, "contiguous_us", "page_size"), how="left", on=[*EQUAL_WORK, "page_size"])
        .merge(_least(control, "control_us"), how="left", on=EQUAL_WORK)
        .merge(_least(others, "other_us"), how="left", on=EQUAL_WORK)
    )
    return costs.assign(
        paging_cost_layout=costs["decode_us"] / costs["contiguous_us"],
        paging_cost_indirection=costs["contiguous_us"] / costs["control_us"],
        kernel_cost=costs["control_us"] / costs["other_us"],
        paging_cost_total=costs["decode_us"] / costs["other_us"],
    )[[*EQUAL_WORK, "page_layout", "page_size", *COSTS]]


def missing_arms(costs: pd.DataFrame) -> list[str]:
    """Return one line per cost that is null in some row, and the times that it divides."""
    return [f"{name} is null in {costs[name].isna().sum()} of {len(costs)} rows: it divides {what}"
            for name, what in COSTS.items() if costs[name].isna().any()]  # fmt: skip


def _least(arms: pd.DataFrame, name: str, *also: str) -> pd.DataFrame:
    """Return the fastest arm of each group of equal work."""
    groups = arms.groupby([*EQUAL_WORK, *also], dropna=False)["decode_us"].min()
    return groups.rename(name).reset_index()
