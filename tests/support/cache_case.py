"""A cache under test beside the plain tensors that it should hold, and every other slot poisoned."""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from impls.interface import Batch, KVCache, MovingKVCache, PageCopy, PrefillKVCache
from impls.policies import make_policy
from impls.reference import allowed_error, decode_attention, max_rel_error, prefill_attention
from impls.spec import ModelSpec, ceil_div

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LEFT_BY_ANOTHER = 5.0
"""What the unwritten slots of a reserved region hold: finite, as what an earlier sequence left there."""


def implementations() -> list[Mapping[str, Any]]:
    """Every implementation of the registry, ``conf/impl/*.yaml``."""
    folder = Path(__file__).resolve().parents[2] / "conf" / "impl"
    return [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What to build. Lengths are tokens."""

    target: str
    policy: str
    page_size: int = 16
    heads: tuple[int, int] = (4, 2)  # query heads, KV heads
    head_dim: int = 32
    dtype: str = "float32"
    num_layers: int = 1
    max_seq_len: int = 64
    max_seqs: int = 4
    host_ratio: float = 0.0  # pages of the host's pool by the pool's
    options: Mapping[str, Any] = field(default_factory=dict)
    semantics: Mapping[str, Any] = field(default_factory=dict)  # kv_dtype, sliding_window, soft_cap
    dead: float = math.nan  # what slots hold that no sequence owns

    @property
    def model(self) -> ModelSpec:
        return ModelSpec(
            name="case",
            num_layers=self.num_layers,
            num_query_heads=self.heads[0],
            num_kv_heads=self.heads[1],
            head_dim=self.head_dim,
            dtype=self.dtype,
            max_seq_len=self.max_seq_len,
            **self.semantics,
        )


def make_cache(setup: Setup) -> KVCache:
    """A cache with room for ``max_seqs`` of the longest sequences, on permuted pages, NaN in every slot by default."""
    model = setup.model
    num_pages = setup.max_seqs * ceil_div(setup.max_seq_len, setup.page_size)
    by_region = setup.policy.startswith("reserved")
    budget_bytes = model.token_bytes * setup.max_seqs * setup.max_seq_len
    policy = make_policy(
        setup.policy,
        model=model,
        budget_bytes=budget_bytes if by_region else num_pages * model.page_bytes(setup.page_size),
        page_size=setup.page_size,
        host_ratio=setup.host_ratio,
        free_order=None if by_region else random.Random(0).sample(range(num_pages), num_pages),
    )
    module, _, name = setup.target.rpartition(".")
    make = getattr(importlib.import_module(module), name)
    cache: KVCache = make(model, policy, device=DEVICE, num_layers=setup.num_layers, options=setup.options)
    for tensor in cache.tensors:
        tensor.fill_(setup.dead)
    return cache


class CacheCase:
    """Drives a cache as a scenario does, and keeps what it should hold.

    Attributes:
        cache: under test.
        truth: by sequence, per layer ``(keys, values)``, each ``[seq_len, num_kv_heads, head_dim]``.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.cache = make_cache(setup)
        self.policy: Any = self.cache.policy
        self.truth: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._generator = torch.Generator().manual_seed(0)

    def admit(self, seq_id: int, num_tokens: int, final_len: int | None = None) -> None:
        """Let a sequence in, by default one that will grow to ``max_seq_len``, and write its prompt."""
        self.policy.admit(seq_id, num_tokens, final_len or self.setup.max_seq_len)
        if hasattr(self.policy, "region"):
            self._fill(range_of(*self.policy.region(seq_id)), LEFT_BY_ANOTHER)
        nothing = self.draw(0)
        self.truth[seq_id] = [(nothing, nothing)] * self.setup.num_layers
        self._write([seq_id] * num_tokens, self.slots(seq_id, 0, num_tokens))

    def append(self, seq_id: int, num_tokens: int) -> None:
        """Write some more tokens of one sequence."""
        start = self.policy.seq_len(seq_id)
        copies = self.policy.append(seq_id, num_tokens)
        if copies:
            self.move("copy_pages", copies)
        self._write([seq_id] * num_tokens, self.slots(seq_id, start, start + num_tokens))

    def step(self, seq_ids: Sequence[int]) -> Batch:
        """Write one token of each sequence, through the slots that ``prepare`` found."""
        for seq_id in seq_ids:
            self.policy.append(seq_id)
        batch = self.cache.prepare(seq_ids)
        self._write(seq_ids, batch.slot_mapping)
        return batch

    def free(self, seq_id: int) -> None:
        """Free a sequence. Its slots must not be read from now on."""
        if hasattr(self.policy, "region"):
            slots = range_of(*self.policy.region(seq_id))
        else:
            pages, size = self.policy.page_ids(seq_id), self.setup.page_size
            slots = [page * size + offset for page in pages for offset in range(size)]
        self.policy.free(seq_id)
        del self.truth[seq_id]
        self._fill(slots, self.setup.dead)

    def slots(self, seq_id: int, start: int, stop: int) -> Tensor:
        """Slots of some tokens, on the device."""
        return torch.tensor(self.policy.slots(seq_id, start, stop), dtype=torch.int64, device=DEVICE)

    def draw(self, *shape: int) -> Tensor:
        """Standard normal K or V of ``shape[0]`` tokens, or any other shape."""
        whole = shape if len(shape) > 1 else (*shape, self.setup.heads[1], self.setup.head_dim)
        return torch.randn(whole, generator=self._generator).to(DEVICE, getattr(torch, self.setup.dtype))

    def query(self, num_seqs: int) -> Tensor:
        """One query per sequence."""
        return self.draw(num_seqs, self.setup.heads[0], self.setup.head_dim)

    def check(self, batch: Batch, seq_ids: Sequence[int]) -> None:
        """Decode every layer, before and after ``tune``, and compare with the reference."""
        query = self.query(len(seq_ids))
        self._compare(query, batch, seq_ids)
        self.cache.tune(query, batch)
        self._compare(query, batch, seq_ids)
        self._compare(query, self.cache.prepare(seq_ids), seq_ids)

    def check_prefill(self, seq_ids: Sequence[int], num_queries: Sequence[int]) -> None:
        """Prefill the newest tokens of each sequence, before and after ``tune_prefill``, in every layer."""
        cache = self.cache
        assert isinstance(cache, PrefillKVCache)
        queries = [self.query(count) for count in num_queries]
        batch = cache.prepare_prefill(seq_ids, num_queries)
        ends = [(seq_id, self.policy.seq_len(seq_id)) for seq_id in seq_ids]
        newest = [self.policy.slots(one, end - count, end) for (one, end), count in zip(ends, num_queries, strict=True)]
        assert batch.slot_mapping.tolist() == [slot for slots in newest for slot in slots]
        assert batch.metadata_bytes >= batch.slot_mapping.nbytes
        for is_tuned in (False, True):
            if is_tuned:
                cache.tune_prefill(torch.cat(queries), batch)
            for layer in range(self.setup.num_layers):
                keys, values = zip(*(self.truth[seq_id][layer] for seq_id in seq_ids), strict=True)
                reference = prefill_attention(queries, keys, values)
                out = cache.prefill(layer, torch.cat(queries), batch)
                assert out.dtype == queries[0].dtype
                assert max_rel_error(out, reference) <= allowed_error(queries, keys, values, reference)

    def move(self, way: str, copies: Sequence[PageCopy]) -> None:
        """Make the copies of ``swap_out``, ``swap_in`` or ``copy_pages``. Swapped-out pages are cleared in the pool."""
        assert isinstance(self.cache, MovingKVCache)
        getattr(self.cache, way)(copies)
        for tensor in self.cache.tensors if way == "swap_out" else ():
            tensor.fill_(self.setup.dead)

    def _compare(self, query: Tensor, batch: Batch, seq_ids: Sequence[int]) -> None:
        for layer in range(self.setup.num_layers):
            keys, values = zip(*(self.truth[seq_id][layer] for seq_id in seq_ids), strict=True)
            reference = decode_attention(query, keys, values)
            out = self.cache.decode(layer, query, batch)
            assert out.dtype == query.dtype
            assert max_rel_error(out, reference) <= allowed_error(query, keys, values, reference)

    def _write(self, seq_ids: Sequence[int], slot_mapping: Tensor) -> None:
        """One new token for each entry of ``seq_ids``, other K and V in each layer."""
        for layer in range(self.setup.num_layers):
            keys, values = self.draw(len(seq_ids)), self.draw(len(seq_ids))
            self.cache.write(layer, slot_mapping, keys, values)
            for seq_id in dict.fromkeys(seq_ids):
                mine = torch.tensor([owner == seq_id for owner in seq_ids], device=DEVICE)
                held_keys, held_values = self.truth[seq_id][layer]
                more = (torch.cat([held_keys, keys[mine]]), torch.cat([held_values, values[mine]]))
                self.truth[seq_id] = [*self.truth[seq_id][:layer], more, *self.truth[seq_id][layer + 1 :]]

    def _fill(self, slots: Iterable[int], value: float) -> None:
        index = torch.tensor(list(slots), device=DEVICE)
        for tensor in self.cache.tensors:
            tensor.view(-1, *tensor.shape[-2:])[index] = value


def range_of(first: int, count: int) -> range:
    """``count`` numbers from ``first`` on."""
    return range(first, first + count)
