"""Columns: what replays without modelled times count."""

from __future__ import annotations

from bench.rows.columns.column import Column, columns

REPLAY: tuple[Column, ...] = (
    *columns(
        "exact",
        "higher",
        contiguous_cumulative_ratio="scenario=notebook: its efficiency of reservation, summed over all that ever came",
        contiguous_exact_ratio="the same of the sequences that are there at the end: live / held",
        paged_cumulative_ratio="scenario=notebook: its efficiency of paging, summed over all that ever came",
        paged_exact_ratio="the same of the sequences that are there at the end: live / held",
    ),
    *columns(
        "exact",
        None,
        held="scenario=capacity: how far each sequence has grown: final, or mid_decode (caught at a random token)",
        queue="scenario=churn: saturated (all requests wait from the start) or open (Poisson arrivals)",
        admissions="sequences admitted, preempted ones again",
        appends="tokens appended after admission",
        frees="sequences that left with all of their tokens",
    ),
    *columns(
        "exact",
        "lower",
        preemptions="sequences thrown out for want of a page, to be computed again; scenario=serving: requests, those "
        "swapped too",
        delayed_requests="queue=open: requests that were not admitted in the step in which they arrived",
        pages_taken_admit="pages taken at admission",
        pages_taken_append="pages taken by appends",
        peak_pages="most pages held at once",
        steps="steps until all was served; in a step every running sequence gets one token",
    ),
    *columns(
        "exact",
        None,
        loaded_steps="steps in which requests were still to be admitted; the parts of the pool are means over these",
        most_running_seqs="most sequences running at once",
    ),
    *columns("exact", "higher", running_mean="sequences running at once, mean over loaded_steps"),
    *columns(
        "exact",
        None,
        prompt_len_mean="scenario=lengths: tokens of a prompt, mean over num_seqs requests",
        output_len_mean="the same of an output",
        cache_pages="scenario=prefix_cache: pages that the cache can hold",
        looked_up_pages="pages of all prompts, a partial last one included",
    ),
    *columns(
        "exact",
        "higher",
        hit_pages="those of them that the cache held",
        prefix_hit_ratio="share of the pages of all prompts found in the cache; scenario=serving: of the tokens",
    ),
    *columns("timing", "lower", replay_s="wall seconds of the replay, accounting at every step included"),
    *columns("exact", None, curves="series behind a scenario's plots, as JSON: {name: [number, …]}"),
)
