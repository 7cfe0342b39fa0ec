"""Check an implementation with several query heads per KV head, whatever the model of the point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bench.config import Config
from bench.rows.result import Answer
from bench.scenarios.filling import Filled, new_policy
from bench.scenarios.tensors.filled import Inputs, draw_inputs, held_by, make_cache, write_sequence
from bench.workload.requests import Requests
from impls.interface import KVCache, Unsupported
from impls.spec import ModelSpec

CheckStep = Callable[[Answer, KVCache, Inputs, Sequence[int], Config], None]
"""Checks one step of a written cache: answer, cache, contents, length of each sequence, configuration."""


def check_grouped(answer: Answer, config: Config, check_step: CheckStep, *, whole_prompts: bool = False) -> None:
    """Check a small step with several query heads per KV head, if the model of the point has only one.

    A wrong group is invisible where every query head has a KV head of its own. An implementation that does not support
    such a shape is not checked.

    Args:
        answer: becomes ``incorrect`` if the small step is wrong.
        config: resolved.
        check_step: checks the small step.
        whole_prompts: whether there is a query for every token, not only for the newest of each sequence.
    """
    model = grouped(config.model)
    if model is None:
        return
    lens = [1, config.page_size, config.page_size + 1]
    small = replace(config, model=replace(model, max_seq_len=max(lens)), num_seqs=len(lens), page_layout="contiguous",
                    policy=replace(config.policy, watermark=0.0))  # fmt: skip
    small = replace(small, memory_budget=str(2 * len(lens) * 2 * small.model.page_bytes(small.page_size)))
    policy = new_policy(small, None)
    for seq_id, seq_len in enumerate(lens):
        policy.admit(seq_id, seq_len, seq_len)
    no_output = Requests(prompt_lens=np.array(lens), output_lens=np.zeros(len(lens), dtype=np.int64))
    filled = Filled(policy=policy, seq_lens=np.array(lens), requests=no_output, prefix_tokens=0)
    found = Answer()
    try:
        cache = make_cache(small, policy, num_layers=1)
        inputs = draw_inputs(small, filled, sum(lens) if whole_prompts else None)
        held = held_by(cache, inputs, small)
        for seq_id, (keys, values) in enumerate(zip(inputs.keys, inputs.values, strict=True)):
            write_sequence(cache, seq_id, keys, values)
        check_step(found, cache, held, lens, small)
    except Unsupported:
        return
    if found.status != "ok":
        answer.status = "incorrect"
        answer.status_reason = f"with {model.attention}, which is checked as well: {found.status_reason}"


def grouped(model: ModelSpec) -> ModelSpec | None:
    """Return the model with several query heads per KV head. ``None`` if it has them, or has a single head.

    >>> from dataclasses import replace
    >>> tiny = ModelSpec(name="tiny", num_layers=1, num_query_heads=9, num_kv_heads=9, head_dim=64, dtype="float32",
    ...                  max_seq_len=64)
    >>> grouped(tiny).num_kv_heads, grouped(replace(tiny, num_kv_heads=3))
    (3, None)
    """
    heads = model.num_query_heads
    if model.group_size > 1 or heads == 1:
        return None
    smallest = next(divisor for divisor in range(2, heads + 1) if heads % divisor == 0)
    return replace(model, num_kv_heads=heads // smallest)
