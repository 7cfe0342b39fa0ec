"""Prefill through ``PagedTriton`` beside the reference, and pages that move. Runs in a worker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch

from impls.caches.paged_triton import PagedTriton
from impls.interface import ExtendedKVCache, MovingKVCache, PrefillKVCache, Unsupported
from impls.policies import PagePool
from impls.reference import allowed_error, decode_attention, decode_lse, max_rel_error, prefill_attention
from tests.kernels.attention_case import DEVICE, Case, filled, make_cache, put, store


def prefill(case: Case, num_queries: Sequence[int]) -> tuple[float, float]:
    """Error and allowed error of the newest tokens of each sequence, every other slot being NaN."""
    cache = make_cache(case)
    assert isinstance(cache, PagedTriton)
    assert isinstance(cache, PrefillKVCache)
    generator = torch.Generator().manual_seed(0)
    keys, values, queries = [], [], []
    for seq_id, (seq_len, count) in enumerate(zip(case.seq_lens, num_queries, strict=True)):
        cache.policy.admit(seq_id, seq_len)
        rows = torch.randn((2, seq_len, case.heads[1], case.head_dim), generator=generator)
        pair = rows.to(DEVICE, getattr(torch, case.dtype))
        if case.semantics.get("kv_dtype"):
            pair = pair.to(torch.float8_e4m3fn).float()
        store(cache, seq_id, *pair.to(cache.tensors[0].dtype))
        keys.append(pair[0])
        values.append(pair[1])
        query = torch.randn((count, case.heads[0], case.head_dim), generator=generator)
        queries.append(query.to(DEVICE, getattr(torch, case.dtype)))
    batch = cache.prepare_prefill(range(len(case.seq_lens)), num_queries)
    expected = [slot for seq_id, (end, count) in enumerate(zip(case.seq_lens, num_queries, strict=True))
                for slot in cache.policy.slots(seq_id, end - count, end)]  # fmt: skip
    assert batch.slot_mapping.tolist() == expected
    reference = prefill_attention(queries, keys, values, **case.masking)
    error = max_rel_error(cache.prefill(0, torch.cat(queries), batch), reference)
    return error, allowed_error(queries, keys, values, reference, **case.masking)


def prefill_tree(case: Case, num_queries: Sequence[int]) -> tuple[float, float, float]:
    """Error and allowed error of random trees of drafted tokens, and the error of causal attention instead."""
    cache, keys, values, _, _ = filled(case)
    assert isinstance(cache, ExtendedKVCache)
    generator = torch.Generator().manual_seed(3)
    trees = [_random_tree(count, generator) for count in num_queries]
    shape = (case.heads[0], case.head_dim)
    queries = [
        torch.randn((count, *shape), generator=generator).to(DEVICE, getattr(torch, case.dtype))
        for count in num_queries
    ]
    batch = cache.prepare_tree(range(len(keys)), trees)
    reference = prefill_attention(queries, keys, values, trees=trees, **case.masking)
    allowed = allowed_error(queries, keys, values, reference, trees=trees, **case.masking)
    error = max_rel_error(cache.prefill(0, torch.cat(queries), batch), reference)
    causal = cache.prefill(0, torch.cat(queries), cache.prepare_prefill(range(len(keys)), num_queries))
    return error, allowed, max_rel_error(causal, reference)


def _random_tree(num_tokens: int, generator: torch.Generator) -> torch.Tensor:
    """Each token continues a random one before it, or the sequence itself. It sees all that led to it."""
    tree = torch.eye(num_tokens, dtype=torch.bool)
    for token in range(1, num_tokens):
        parent = int(torch.randint(-1, token, (1,), generator=generator))
        if parent >= 0:
            tree[token] |= tree[parent]
    return tree


def prefill_padding(case: Case) -> bool:
    """Whether a sequence whose length becomes 0 on the device has zeros, and the others what they had."""
    cache, _, _, _, _ = filled(case)
    num_queries = (3, 2, 4)
    query = torch.randn((sum(num_queries), case.heads[0], case.head_dim)).to(DEVICE, getattr(torch, case.dtype))
    batch = cache.prepare_prefill(range(3), num_queries)
    before = cache.prefill(0, query, batch)
    batch.rows.seq_lens[1] = 0
    after = cache.prefill(0, query, batch)
    return bool((after[3:5] == 0).all()) and torch.equal(before[:3], after[:3]) and torch.equal(before[5:], after[5:])


def cascade(case: Case, shared_tokens: int, padding: Sequence[int] = ()) -> tuple[float, float, float, int]:
    """Error and allowed error of forks of one sequence, the error of the log-sum-exp, and parts of a sequence.

    The first sequence of the case is the prefix. The others are forks of it that grow to their lengths.
    """
    cache, keys, values, query = _forks(case)
    seq_ids = range(1, len(case.seq_lens))
    batch = cache.prepare_cascade(seq_ids, shared_tokens)
    reference = decode_attention(query, keys, values, **case.masking)
    rest = [index for index in range(len(keys)) if index not in padding]
    batch.seq_lens[list(padding)] = 0
    out, lse = cache.decode_with_lse(0, query, batch)
    if padding and not (bool((out[list(padding)] == 0).all()) and bool(torch.isneginf(lse[list(padding)]).all())):
        return math.inf, 0, math.inf, 0
    expected = decode_lse(query, keys, **case.masking)
    allowed = allowed_error(query, keys, values, reference, **case.masking)
    lse_error = float((lse[rest] - expected[rest]).abs().max())
    return max_rel_error(out[rest], reference[rest]), allowed, lse_error, batch.plan.num_splits


def _forks(case: Case) -> tuple[PagedTriton, list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """A cache of one sequence and its forks, and K, V and a query of the forks."""
    cache = make_cache(case)
    assert isinstance(cache, PagedTriton)
    generator = torch.Generator().manual_seed(4)
    dtype = getattr(torch, case.dtype)
    prefix_len, *lens = case.seq_lens
    shape = (case.heads[1], case.head_dim)
    prefix = torch.randn((2, prefix_len, *shape), generator=generator).to(DEVICE, dtype)
    cache.policy.admit(0, prefix_len)
    store(cache, 0, *prefix)
    keys, values = [], []
    for seq_id, seq_len in enumerate(lens, start=1):
        cache.policy.fork(0, seq_id)
        for _ in range(seq_len - prefix_len):
            cache.copy_pages(cache.policy.append(seq_id))
        own = torch.randn((2, seq_len - prefix_len, *shape), generator=generator).to(DEVICE, dtype)
        slots = torch.tensor(cache.policy.slots(seq_id, prefix_len, seq_len), dtype=torch.int64, device=DEVICE)
        for tensor, rows in zip(cache.tensors, own, strict=True):
            put(tensor, slots, rows)
        keys.append(torch.cat((prefix[0], own[0])))
        values.append(torch.cat((prefix[1], own[1])))
    query = torch.randn((len(lens), case.heads[0], case.head_dim), generator=generator).to(DEVICE, dtype)
    return cache, keys, values, query


def refused_cascades(case: Case, shared_tokens: int) -> str:
    """Type and text of the error of a cascade over two sequences that share nothing."""
    cache, _, _, _, _ = filled(case)
    try:
        cache.prepare_cascade([0, 1], shared_tokens)
    except (Unsupported, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


def refused_trees(case: Case, rows: Sequence[Sequence[int]]) -> str:
    """Type and text of the error of one sequence's tree."""
    cache, _, _, _, _ = filled(case)
    try:
        cache.prepare_tree([0], [torch.tensor(rows, dtype=torch.bool)])
    except (Unsupported, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


def refused_extras() -> list[str]:
    """Return the messages for sinks and slopes of another shape, and for a sink that is not a number."""
    cache = make_cache(Case(seq_lens=(8,)))
    calls = [
        partial(cache.set_sinks, 0, torch.zeros(3)),
        partial(cache.set_alibi, torch.zeros(4, 1)),
        partial(cache.set_sinks, 0, torch.full((4,), math.nan)),
    ]
    texts = []
    for call in calls:
        try:
            call()
        except ValueError as error:
            texts.append(str(error))
    return texts


def refused_queries(num_queries: Sequence[int]) -> str:
    """Return the message for numbers of queries that a batch of lengths 3 and 5 cannot have."""
    cache = make_cache(Case(seq_lens=(3, 5)))
    assert isinstance(cache, PagedTriton)
    for seq_id, seq_len in enumerate((3, 5)):
        cache.policy.admit(seq_id, seq_len)
    try:
        cache.prepare_prefill([0, 1], num_queries)
    except ValueError as error:
        return str(error)
    return "taken"


def _moving(page_size: int, kv_layout: str, dtype: str, page_moves: str, host_pages: int) -> PagedTriton:
    case = Case(seq_lens=(10,), page_size=page_size, heads=(4, 2), dtype=dtype)
    pool = PagePool(8, page_size, case.model.token_bytes, host_pages=host_pages, free_order=[5, 1, 7, 0, 3, 2, 6, 4])
    options = {"kv_layout": kv_layout, "page_moves": page_moves}
    cache = PagedTriton(case.model, pool, device=DEVICE, num_layers=2, options=options)
    assert isinstance(cache, MovingKVCache)
    for tensor in cache.tensors:
        tensor.fill_(math.nan)
    return cache


def copy_on_write(page_size: int, kv_layout: str, dtype: str, page_moves: str) -> tuple[int, list[float]]:
    """Pages copied, and how far a fork's step is above the allowed error, for parent and child, in each layer."""
    cache = _moving(page_size, kv_layout, dtype, page_moves, 1)
    tokens = 2 * page_size + page_size // 2
    rows = torch.randn((4, tokens + 1, 2, 64)).to(DEVICE, getattr(torch, dtype))
    cache.policy.admit(0, tokens)
    slots = torch.tensor(cache.policy.slots(0, 0, tokens), device=DEVICE)
    for layer in range(2):
        cache.write(layer, slots, rows[2 * layer, :tokens], rows[2 * layer + 1, :tokens])
    cache.policy.fork(0, 1)
    copies = list(cache.policy.append(1))
    cache.copy_pages(copies)
    newest = torch.tensor(cache.policy.slots(1, tokens, tokens + 1), device=DEVICE)
    above = []
    query = torch.randn((2, 4, 64)).to(rows.dtype).to(DEVICE)
    for layer in range(2):
        keys, values = rows[2 * layer], rows[2 * layer + 1]
        cache.write(layer, newest, keys[-1:], values[-1:])
        held = [keys[:-1], keys], [values[:-1], values]
        reference = decode_attention(query, *held)
        error = max_rel_error(cache.decode(layer, query, cache.prepare([0, 1])), reference)
        above.append(error - allowed_error(query, *held, reference))
    return len(copies), above


def swap(page_size: int, kv_layout: str, dtype: str, page_moves: str) -> bool:
    """Whether a sequence comes back from the host as it went, though another used its pages meanwhile."""
    cache = _moving(page_size, kv_layout, dtype, page_moves, 4)
    tokens = 3 * page_size + 1
    rows = torch.randn((2, tokens, 2, 64)).to(DEVICE, getattr(torch, dtype))
    query = torch.randn((1, 4, 64)).to(rows.dtype).to(DEVICE)
    cache.policy.admit(0, tokens)
    for layer in range(2):
        cache.write(layer, torch.tensor(cache.policy.slots(0, 0, tokens), device=DEVICE), *rows)
    before = [cache.decode(layer, query, cache.prepare([0])) for layer in range(2)]
    cache.swap_out(cache.policy.swap_out(0))
    for tensor in cache.tensors:
        tensor.fill_(math.nan)
    cache.policy.admit(1, 1)  # takes one of the pages
    cache.swap_in(cache.policy.swap_in(0))
    after = [cache.decode(layer, query, cache.prepare([0])) for layer in range(2)]
    return all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def swap_too_far() -> str:
    """Return the message for a page that the host does not have."""
    cache = _moving(4, "NHD", "float16", "at_once", 2)
    try:
        cache.swap_out([(0, 2)])  # type: ignore[list-item]
    except ValueError as error:
        return str(error)
    return "taken"
