"""Columns: the question of a point, and how its row ended."""

from __future__ import annotations

from functools import partial

from bench.rows.columns.column import Column, Topic

_identity = partial(Column, kind="identity", source="harness")
_shown = partial(_identity, tables=("question",))

QUESTION = Topic(
    title="The question, and how it ended",
    columns=(
        _identity(name="key", meaning="hash of the question. Neither code nor hardware is part of it"),
        _shown(
            name="replicate",
            counts=True,
            place=20,
            tables=("question", "report"),
            meaning="number of the round, 0 … replicates − 1. Each round has a fork server of its own",
        ),
        Column(
            name="status",
            kind="record",
            source="harness",
            tables=("times",),
            place=99,
            meaning="ok, incorrect, unsupported, oom, oom_predicted, skipped_dominated, timeout, crashed or "
            "interrupted",
        ),
        Column(
            name="status_reason",
            kind="record",
            source="harness",
            may_be_null=True,
            meaning="one sentence, if status is not ok",
        ),
        _shown(
            name="scenario",
            place=1,
            names_point=True,
            tables=("question", "report"),
            meaning="name of the scenario: what is done with the cache",
        ),
        _shown(
            name="implementation",
            place=7,
            names_point=True,
            tables=("question", "report"),
            meaning="name of the cache. Null if the scenario has no tensors",
        ),
        _shown(
            name="policy",
            place=8,
            names_point=True,
            tables=("question", "report"),
            meaning="name of the memory policy, `auto` resolved",
        ),
        _identity(
            name="arena",
            meaning="method by which a reserved policy finds its regions: first_fit, or the paper's buddy allocator",
        ),
        _shown(name="model", place=2, meaning="name of the model's shape"),
        _shown(name="workload", place=3, meaning="name of the workload"),
        _identity(name="trace", meaning="file name of workload=trace, without endings"),
        _shown(
            name="page_layout",
            heading="layout",
            place=9,
            meaning="order of a sequence's pages in the pool. Null if it has no effect",
        ),
        _shown(
            name="page_size",
            heading="page",
            place=10,
            counts=True,
            tables=("question", "report"),
            meaning="tokens per page. Null if it has no effect",
        ),
        _shown(name="num_seqs", heading="seqs", place=14, tables=("question", "report"), meaning="sequences offered"),
        _shown(
            name="memory_budget_bytes",
            heading="budget",
            place=18,
            meaning="bytes for the KV cache over all layers, `auto` resolved",
        ),
        _shown(name="seed", place=19, counts=True, meaning="seed of every random draw"),
        _shown(name="device", place=4, meaning="cpu or cuda. Null without tensors"),
        _shown(
            name="dtype",
            place=5,
            meaning="element type of the queries. K and V have the same type, unless attention_shape names another",
        ),
        _shown(
            name="attention_shape",
            heading="heads",
            place=6,
            meaning="query heads / KV heads x head_dim, then the type of stored K and V, the window and the soft cap, "
            "if the model has them",
        ),
        _identity(
            name="benchmark",
            names_point=True,
            scenarios=("pytest_benchmark",),
            meaning="full name of the test that was timed. Null elsewhere",
        ),
    ),
)
