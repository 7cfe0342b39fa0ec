"""Columns: counts of the simulations without modelled times."""

from __future__ import annotations

from functools import partial

from bench.rows.columns.column import SHARE, Column, Topic

_efficiency = partial(Column, kind="exact", better="higher", bounds=SHARE, scenarios=("notebook",))
_churn = partial(Column, kind="exact", scenarios=("churn",))
_replayed = partial(Column, kind="exact", scenarios=("churn", "serving"))
_count = partial(_churn, tables=("counts",))

REPLAY = Topic(
    title="Simulations: notebook, capacity, churn, lengths, prefix cache",
    columns=(
        _efficiency(
            name="contiguous_cumulative_ratio",
            meaning="the notebook's efficiency of reservation, over all sequences that were ever admitted",
        ),
        _efficiency(
            name="contiguous_exact_ratio",
            meaning="efficiency of reservation over the sequences in the pool at the end: live / held",
        ),
        _efficiency(
            name="paged_cumulative_ratio",
            meaning="the notebook's efficiency of paging, over all sequences that were ever admitted",
        ),
        _efficiency(
            name="paged_exact_ratio",
            meaning="efficiency of paging over the sequences in the pool at the end: live / held",
        ),
        Column(
            name="held",
            kind="exact",
            scenarios=("capacity",),
            meaning="length to which each sequence has grown: final, or mid_decode (a random token of its output)",
        ),
        _churn(
            name="queue",
            meaning="saturated (all requests wait from the start) or open (Poisson arrivals)",
        ),
        _count(name="admissions", counts=True, place=42, meaning="sequences admitted, and again after a preemption"),
        _count(name="appends", counts=True, place=43, meaning="tokens appended after admission"),
        _churn(name="frees", counts=True, meaning="sequences that left with all of their tokens"),
        _replayed(
            name="preemptions",
            better="lower",
            counts=True,
            heading="preempted",
            tables=("counts", "serving"),
            place=44,
            meaning="sequences evicted because no page was free. scenario=serving counts requests, those that were "
            "swapped out included",
        ),
        _count(
            name="delayed_requests",
            better="lower",
            heading="delayed",
            place=45,
            meaning="queue=open: requests that were not admitted in the step in which they arrived",
        ),
        _count(
            name="pages_taken_admit",
            better="lower",
            counts=True,
            heading="pages: admit",
            place=46,
            meaning="pages taken at admission",
        ),
        _count(
            name="pages_taken_append",
            better="lower",
            counts=True,
            heading="append",
            place=47,
            meaning="pages taken by appends",
        ),
        _count(name="peak_pages", better="lower", heading="peak", place=48, meaning="largest number of pages held"),
        _replayed(
            name="steps",
            better="lower",
            counts=True,
            tables=("counts",),
            place=50,
            meaning="steps until all requests are served. In a step every running sequence gets one token",
        ),
        _churn(
            name="loaded_steps",
            meaning="steps in which requests were still to be admitted. The parts of the pool are means over these",
        ),
        _replayed(
            name="most_running_seqs",
            heading="most",
            tables=("counts",),
            place=41,
            meaning="largest number of sequences that run at once",
        ),
        _count(
            name="running_mean",
            better="higher",
            place=40,
            heading="running",
            meaning="sequences that run at once, mean over loaded_steps",
        ),
        Column(
            name="prompt_len_mean",
            kind="exact",
            scenarios=("lengths",),
            meaning="tokens of a prompt, mean over num_seqs requests",
        ),
        Column(
            name="output_len_mean",
            kind="exact",
            scenarios=("lengths",),
            meaning="tokens of an output, mean over num_seqs requests",
        ),
        Column(
            name="cache_pages",
            kind="exact",
            scenarios=("prefix_cache",),
            meaning="pages that the cache can hold",
        ),
        Column(
            name="looked_up_pages",
            kind="exact",
            scenarios=("prefix_cache",),
            meaning="pages of all prompts, a partial last one included",
        ),
        Column(
            name="hit_pages",
            kind="exact",
            better="higher",
            scenarios=("prefix_cache",),
            meaning="pages of all prompts that the cache held",
        ),
        Column(
            name="prefix_hit_ratio",
            kind="exact",
            better="higher",
            bounds=SHARE,
            scenarios=("prefix_cache", "serving"),
            meaning="share of the pages of all prompts that were found in the cache. scenario=serving: "
            "prefix_hit_tokens / prompt_tokens, both of first admissions",
        ),
        Column(
            name="replay_s",
            kind="timing",
            better="lower",
            tables=("counts", "serving"),
            place=90,
            scenarios=("churn", "serving", "prefix_cache"),
            meaning="wall seconds of the replay, accounting at every step included",
        ),
        Column(
            name="curves",
            kind="exact",
            scenarios=("churn", "serving", "notebook", "lengths"),
            meaning="series behind a scenario's plots, as JSON: {name: [number, …]}",
        ),
    ),
)
