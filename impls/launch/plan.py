"""How a decode step is launched: contenders, the plan of a batch, its work list on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.kernels import heuristics
from impls.kernels.heuristics import Tile
from impls.launch.setup import Setup
from impls.launch.work_list import CostModel, Tokens, WorkList, build_work_list
from impls.spec import ceil_div

_HOPELESS = 3.0
"""One split is not timed where the cost model expects that many times the time of its own choice."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to launch a batch that ``tune`` may time.

    Attributes:
        tile: compile-time shape of the decode kernel.
        one_split: whether no sequence is split. Else the cost model decides.
    """

    tile: Tile
    one_split: bool = False

    def __str__(self) -> str:
        splits = ", one split" if self.one_split else ""
        return f"{self.tile.block_tokens} tokens, {self.tile.num_warps} warps, {self.tile.num_stages} stages{splits}"


@dataclass(frozen=True, kw_only=True)
class DeviceWork:
    """A work list on the device, and room for its partial results.

    Attributes:
        items: int32 ``[num_items, 4]``, see ``WorkList``.
        merged_seqs: int32 ``[num_merged]``.
        part_indptr: int32 ``[num_merged + 1]``.
        parts: float32 ``[num_parts, num_query_heads, head_dim]``, or ``None`` if no sequence is split.
        part_lse: float32 ``[num_parts, num_query_heads]``, their log-sum-exp in base two.
    """

    items: Tensor
    merged_seqs: Tensor
    part_indptr: Tensor
    parts: Tensor | None
    part_lse: Tensor | None

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the list, without the partial results."""
        return self.items.nbytes + self.merged_seqs.nbytes + self.part_indptr.nbytes


@dataclass(frozen=True, kw_only=True)
class SharedPrefix:
    """A prefix that all sequences of a batch share, attended to for the whole batch at once.

    Attributes:
        num_tokens: tokens of the prefix, a multiple of the page size.
        num_parts: parts in which it is cut.
        part_tokens: tokens of each part, a multiple of the prefix kernel's tile.
    """

    num_tokens: int
    num_parts: int
    part_tokens: int


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """How one batch is launched.

    Attributes:
        tile: compile-time shape of the decode kernel.
        num_splits: parts of the sequence that has the most.
        num_items: items of the work list.
        num_programs: programs of the decode kernel: for each item one per KV head, or several if a
            KV head has more query heads than a program takes.
        work: the work list, or ``None`` if each item is a whole sequence and their order does not matter.
        shared: the prefix that the work list leaves out, or ``None``.
    """

    tile: Tile
    num_splits: int
    num_items: int
    num_programs: int
    work: DeviceWork | None
    shared: SharedPrefix | None = None

    @property
    def metadata_bytes(self) -> int:
        """Device bytes of the work list."""
        return 0 if self.work is None else self.work.metadata_bytes


class Planner:
    """Plans launches of the decode kernel for one model and device.

    Args:
        setup: the kernels, the model and the device.
        num_splits: parts of the longest sequence, at most. The cost model decides if ``None``.
    """

    def __init__(self, setup: Setup, num_splits: int | None) -> None:
        self._setup = setup
        self._model = setup.model
        self._num_splits = num_splits
        self._workspace = torch.empty(0, dtype=torch.float32, device=setup.device)

    def plan(self, contender: Contender, host_lens: NDArray[np.int32]) -> LaunchPlan:
        """Return how to launch a batch of these lengths in this way."""
        tile, num_seqs = contender.tile, len(host_lens)
        tokens = Tokens.of(host_lens, self._model.sliding_window, tile.block_tokens)
        cost = self._cost_model(tile)
        part_tiles = self._part_tiles(contender, tokens, cost)
        longest = int(tokens.tiles.max())
        is_uniform = longest == int(tokens.tiles.min())
        if part_tiles >= longest and (is_uniform or cost.fills_one_round(num_seqs)):
            programs = num_seqs * cost.programs_per_item
            return LaunchPlan(tile=tile, num_splits=1, num_items=num_seqs, num_programs=programs, work=None)
        return self._listed(tile, build_work_list(tokens, part_tiles), cost, None)

    def plan_cascade(self, contender: Contender, host_lens: NDArray[np.int32], shared_tokens: int) -> LaunchPlan:
        """Return how to launch a batch whose sequences share their first tokens.

        The prefix is cut so that its programs are about as many as the multiprocessors.

        Args:
            contender: tile of the decode kernel, and how it splits what is not shared.
            host_lens: int32 ``[num_seqs]``.
            shared_tokens: tokens of the prefix.
        """
        tile = contender.tile
        tokens = Tokens.of(host_lens, None, tile.block_tokens, shared_tokens)
        cost = self._cost_model(tile)
        shape = heuristics.prefill_tile(head_dim=self._model.head_dim, element_bytes=self._model.element_bytes)
        row_tiles = ceil_div(len(host_lens) * self._model.group_size, shape.block_rows)
        wanted = max(self._setup.target.multiprocessors // (row_tiles * self._model.num_kv_heads), 1)
        part_tokens = ceil_div(ceil_div(shared_tokens, shape.block_tokens), wanted) * shape.block_tokens
        shared = SharedPrefix(
            num_tokens=shared_tokens, num_parts=ceil_div(shared_tokens, part_tokens), part_tokens=part_tokens
        )
        work = build_work_list(tokens, self._part_tiles(contender, tokens, cost), shared.num_parts)
        return self._listed(tile, work, cost, shared)

    def _listed(self, tile: Tile, work: WorkList, cost: CostModel, shared: SharedPrefix | None) -> LaunchPlan:
        return LaunchPlan(
            tile=tile,
            num_splits=work.num_splits,
            num_items=len(work.items),
            num_programs=len(work.items) * cost.programs_per_item,
            work=self._to_device(work),
            shared=shared,
        )

    def contenders(self, tiles: Sequence[Tile], host_lens: NDArray[np.int32]) -> dict[Contender, LaunchPlan]:
        """Return a plan of every tile with the splits of the cost model and, where those are several, with one.

        Args:
            tiles: tiles to choose from.
            host_lens: int32 ``[num_seqs]``.
        """
        plans = {}
        for tile in tiles:
            contender = Contender(tile=tile)
            plans[contender] = self.plan(contender, host_lens)
            one_split = Contender(tile=tile, one_split=True)
            if plans[contender].num_splits > 1 and self._num_splits is None and self._has_a_chance(tile, host_lens):
                plans[one_split] = self.plan(one_split, host_lens)
        return plans

    def _has_a_chance(self, tile: Tile, host_lens: NDArray[np.int32]) -> bool:
        """Return whether one split may beat the choice of the cost model."""
        tiles = Tokens.of(host_lens, self._model.sliding_window, tile.block_tokens).tiles
        cost = self._cost_model(tile)
        chosen_us, one_us = cost.estimate_us(tiles, np.array([cost.choose_part_tiles(tiles), tiles.max()]))
        return bool(one_us < _HOPELESS * chosen_us) and not self._setup.kernels.are_interpreted

    def _part_tiles(self, contender: Contender, tokens: Tokens, cost: CostModel) -> int:
        longest = max(int(tokens.tiles.max()), 1)
        if self._num_splits is not None:
            return ceil_div(longest, self._num_splits)
        return longest if contender.one_split else cost.choose_part_tiles(tokens.tiles)

    def _cost_model(self, tile: Tile) -> CostModel:
        model, device = self._model, self._setup.target
        programs = tile.programs_per_sm(model.element_bytes, model.stored_bytes, device.capability)
        float32_bytes, written_and_read = 4, 2
        return CostModel(
            slots=device.multiprocessors * programs,
            device_bytes_per_us=device.multiprocessors * heuristics.sm_bytes_per_us(device.capability),
            program_bytes_per_us=tile.bytes_per_us(model.stored_bytes, device.capability),
            programs_per_item=model.num_kv_heads * ceil_div(model.group_size, tile.block_group),
            tile_bytes=tile.block_tokens * model.token_bytes_per_layer // model.num_kv_heads,
            part_bytes=written_and_read
            * float32_bytes
            * min(model.group_size, tile.block_group)
            * (model.head_dim + 1),
        )

    def _to_device(self, work: WorkList) -> DeviceWork:
        """Copy a work list to the device in one transfer, and reserve room for its partial results."""
        packed, (merged_start, indptr_start) = work.packed()
        moved = torch.from_numpy(packed).to(self._setup.device)
        parts = part_lse = None
        if work.num_parts:
            rows = work.num_parts * self._model.num_query_heads
            parts, part_lse = self._reserve(rows * self._model.head_dim, rows)
        return DeviceWork(
            items=moved[: work.items.size].view(-1, 4),
            merged_seqs=moved[merged_start : merged_start + len(work.merged_seqs)],
            part_indptr=moved[indptr_start:],
            parts=parts,
            part_lse=part_lse,
        )

    def _reserve(self, *sizes: int) -> Sequence[Tensor]:
        """Tensors of those many elements in one workspace that only grows, shared by all batches.

        Sharing is safe: the parts of a step are merged before the next step begins.
        """
        if self._workspace.numel() < sum(sizes):
            self._workspace = torch.empty(sum(sizes), dtype=torch.float32, device=self._setup.device)
        tensors: Sequence[Tensor] = self._workspace[: sum(sizes)].split(sizes)
        return tensors
