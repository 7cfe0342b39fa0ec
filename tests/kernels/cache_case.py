"""What ``PagedTriton`` does beside decoding. Runs in a worker, as ``attention_case`` does."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch

from impls.caches.paged_triton import PagedTriton
from impls.interface import KVCache, QuantisedKVCache, Unsupported
from impls.kernels.heuristics import tile_contenders
from impls.kernels.support import Device
from impls.launch import decoder, setup
from impls.launch.plan import Contender
from impls.launch.tile_cache import FOLDER_VARIABLE
from impls.policies import PagePool, Reserved
from impls.reference import allowed_error, decode_attention, max_rel_error, prefill_attention
from tests.kernels.attention_case import DEVICE, Case, make_cache, put, store, take


def write_with_skips(case: Case) -> bool:
    """Whether exactly the tokens with a slot were stored, each in its own, and nothing else changed."""
    cache = make_cache(case)
    cache.policy.admit(0, 6)
    keys = torch.randn((6, case.heads[1], case.head_dim), device=DEVICE).to(getattr(torch, case.dtype))
    slots = torch.tensor(cache.policy.slots(0, 0, 6), dtype=torch.int64, device=DEVICE)
    expected = torch.full_like(cache.tensors[0], math.nan)
    put(expected, slots[1:5], keys[1:5])
    slots[[0, 5]] = -1
    # Not contiguous, as slices of a fused projection are.
    strided = torch.stack((keys, -keys), dim=1)
    cache.write(0, slots, strided[:, 0], strided[:, 1])
    stored = cache.tensors
    return torch.equal(stored[0].nan_to_num(7), expected.nan_to_num(7)) and torch.equal(
        stored[1].nan_to_num(7), -expected.nan_to_num(-7)
    )


def quantised(case: Case, unit: float) -> tuple[float, float, bool, int]:
    """Error and allowed error over what was stored, whether that is what torch rounds to, and the scales' bytes.

    Scales differ by KV head and between K and V. The largest number saturates.
    """
    cache = make_cache(case)
    generator = torch.Generator().manual_seed(1)
    num_heads = case.heads[1]
    scales = unit * torch.arange(1, 2 * num_heads + 1, device=DEVICE).view(2, num_heads)
    assert isinstance(cache, QuantisedKVCache)
    cache.set_scales(0, *scales)
    keys, values = [], []
    for seq_id, seq_len in enumerate(case.seq_lens):
        cache.policy.admit(seq_id, seq_len)
        rows = torch.randn((2, seq_len, num_heads, case.head_dim), generator=generator)
        rows[0, 0, 0, 0] = 1e4
        rows = rows.to(DEVICE, getattr(torch, case.dtype))
        slots = torch.tensor(cache.policy.slots(seq_id, 0, seq_len), device=DEVICE)
        cache.write(0, slots, *rows)
        units = (rows.float() / scales[:, None, :, None]).clamp(-448, 448).to(torch.float8_e4m3fn)
        for held, expected in zip(cache.tensors, units, strict=True):
            # As numbers: where the interpreter rounds to zero, the sign is lost.
            if not torch.equal(take(held, slots).float(), expected.float()):
                return math.inf, 0, False, 0
        for kept, rounded in zip((keys, values), units.float() * scales[:, None, :, None], strict=True):
            kept.append(rounded)
    shape = (len(case.seq_lens), case.heads[0], case.head_dim)
    query = (torch.randn(shape, generator=generator) / 16).to(DEVICE, getattr(torch, case.dtype))
    batch = cache.prepare(range(len(case.seq_lens)))
    reference = decode_attention(query, keys, values, **case.masking)
    error = max_rel_error(cache.decode(0, query, batch), reference)
    return error, allowed_error(query, keys, values, reference, **case.masking), True, batch.scales_bytes


def append_and_decode(case: Case, steps: int) -> list[tuple[float, float]]:
    """Error and allowed error of each of some steps, the newest token written through the batch."""
    cache = make_cache(case)
    dtype = getattr(torch, case.dtype)
    shape = (len(case.seq_lens), max(case.seq_lens) + steps, case.heads[1], case.head_dim)
    keys, values = torch.randn((2, *shape), device=DEVICE).to(dtype)
    for seq_id, seq_len in enumerate(case.seq_lens):
        cache.policy.admit(seq_id, seq_len)
        store(cache, seq_id, keys[seq_id, :seq_len], values[seq_id, :seq_len])
    return [_step(cache, case, keys, values) for _ in range(steps)]


def _step(cache: PagedTriton, case: Case, keys: torch.Tensor, values: torch.Tensor) -> tuple[float, float]:
    seq_ids = range(len(case.seq_lens))
    for seq_id in seq_ids:
        cache.policy.append(seq_id)
    batch = cache.prepare(seq_ids)
    lens = batch.seq_lens.tolist()
    newest = [length - 1 for length in lens]
    cache.write(0, batch.slot_mapping, keys[seq_ids, newest], values[seq_ids, newest])
    query = torch.randn((len(lens), case.heads[0], case.head_dim), device=DEVICE).to(keys.dtype)
    live = [[rows[seq_id, :length] for seq_id, length in enumerate(lens)] for rows in (keys, values)]
    reference = decode_attention(query, *live)
    error = max_rel_error(cache.decode(0, query, batch), reference)
    return error, allowed_error(query, *live, reference)


def attend_beyond_31_bits() -> tuple[list[float], int]:
    """Return how far errors exceed the allowed ones, and the first element of a sequence past 2**31 elements.

    Decoding it, its prefill, and decoding again after its page was copied to another beyond 2**31. The
    pool is allocated but, save for those pages, never touched: it takes address space only.
    """
    page_size, head_dim = 1024, 64
    num_pages = 2**31 // (page_size * head_dim) + 8
    model = Case(seq_lens=(20,), head_dim=head_dim, dtype="float16").model
    policy = PagePool(num_pages, page_size, model.token_bytes, free_order=range(num_pages - 1, -1, -1))
    cache = PagedTriton(model, policy, device=DEVICE, num_layers=1, options={})
    policy.admit(0, 20)
    keys, values = torch.randn((2, 20, 1, head_dim), device=DEVICE).half()
    cache.write(0, torch.tensor(policy.slots(0, 0, 20), device=DEVICE), keys, values)
    query = torch.randn((20, 4, head_dim), device=DEVICE).half()
    newest, whole = query[-1:], prefill_attention([query], [keys], [values])
    outs = [cache.decode(0, newest, cache.prepare([0])), cache.prefill(0, query, cache.prepare_prefill([0], [20]))]
    first_element = policy.slots(0, 0, 1)[0] * head_dim
    policy.fork(0, 1)
    cache.copy_pages(policy.append(1))
    policy.free(0)
    cache.write(0, torch.tensor(policy.slots(1, 20, 21), device=DEVICE), keys[:1], values[:1])
    outs.append(cache.decode(0, newest, cache.prepare([1])))
    longer = [torch.cat((rows, rows[:1])) for rows in (keys, values)]
    cases = [(newest, keys, values), (query, keys, values), (newest, *longer)]
    above = []
    for out, (asked, held_keys, held_values) in zip(outs, cases, strict=True):
        reference = whole if len(asked) > 1 else decode_attention(asked, [held_keys], [held_values])
        allowed = allowed_error([asked], [held_keys], [held_values], reference)
        above.append(max_rel_error(out, reference) - allowed)
    return above, first_element


def facts_after_tune(case: Case) -> dict[str, object]:
    """Return the facts of the cache after one ``tune``."""
    cache = make_cache(case)
    assert isinstance(cache, KVCache)
    for tensor in cache.tensors:
        tensor.zero_()
    for seq_id, seq_len in enumerate(case.seq_lens):
        cache.policy.admit(seq_id, seq_len)
    batch = cache.prepare(range(len(case.seq_lens)))
    query = torch.ones((len(case.seq_lens), case.heads[0], case.head_dim), device=DEVICE)
    cache.tune(query, batch)
    shapes = [tuple(tensor.shape) for tensor in cache.tensors]
    return {**cache.details(), "storage_bytes": cache.storage_bytes, "shapes": shapes, "pages": cache.policy.num_pages}


def tune_twice(case: Case, folder: str) -> tuple[object, object, int]:
    """Return the choices of two caches of one shape, and how often contenders were timed, decoding included."""
    timings = 0

    def time_them(calls: Mapping[Contender, Callable[[], object]], *others: object) -> Contender:
        nonlocal timings
        timings += 1
        return list(calls)[-1]

    with (
        mock.patch.dict(os.environ, {FOLDER_VARIABLE: folder}),
        mock.patch.object(decoder, "fastest", time_them),
    ):
        said = [_choice_among_several(case) for _ in range(2)]
    return said[0], said[1], timings


def tune_with_a_tile_that_does_not_fit(case: Case, folder: str) -> object:
    """Return the choice of a cache whose device has too little shared memory for its first tile."""
    from triton.runtime.errors import OutOfResources

    attend = decoder.TritonDecoder.attend

    def refuse(one: decoder.TritonDecoder, *arguments: Any) -> torch.Tensor:
        if arguments[3].tile == one.tiles[0]:
            raise OutOfResources(327680, 232448, "shared memory")
        return attend(one, *arguments)

    with (
        mock.patch.dict(os.environ, {FOLDER_VARIABLE: folder}),
        mock.patch.object(decoder.TritonDecoder, "attend", refuse),
    ):
        return _choice_among_several(case)


def _choice_among_several(case: Case) -> object:
    """Tune a new cache with several tiles in contention, decode, and return its ``kernel_choice``."""
    cache = make_cache(case)
    for tensor in cache.tensors:
        tensor.zero_()  # what lay in that memory may be NaN
    for seq_id, seq_len in enumerate(case.seq_lens):
        cache.policy.admit(seq_id, seq_len)
    cache.decoder.tiles = tile_contenders(cache.decoder.tile, 4)
    batch = cache.prepare(range(len(case.seq_lens)))
    query = torch.ones((len(case.seq_lens), case.heads[0], case.head_dim), device=DEVICE)
    cache.tune(query, batch)
    cache.decode(0, query, batch)
    cache.decode(0, query, cache.prepare(range(len(case.seq_lens))))
    return cache.details()["kernel_choice"]


def refusal(
    case: Case,
    *,
    device: str = DEVICE,
    policy_name: str = "paged",
    without_triton: bool = False,
    capability: int | None = None,
) -> str:
    """Return the type and the message of the error with which a cache is refused."""
    model = case.model
    policy = PagePool(4, case.page_size, model.token_bytes)
    other = Reserved(64, model.max_seq_len, model.token_bytes, estimate="max")
    found = importlib.util.find_spec
    absent = mock.patch.object(importlib.util, "find_spec", lambda name: None if without_triton else found(name))
    old = Device(multiprocessors=1, capability=capability or 0)
    told = mock.patch.object(setup, "describe_device", return_value=old) if capability else nullcontext()
    try:
        with absent, told:
            PagedTriton(
                model, policy if policy_name == "paged" else other, device=device, num_layers=1, options=case.options
            )
    except (Unsupported, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "made"
