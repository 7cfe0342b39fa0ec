"""Launches decode attention for every cache that uses our Triton kernels: tiles, work lists, merging."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls.interface import Unsupported
from impls.kernels import heuristics
from impls.kernels.support import MIN_OVERLAP_CAPABILITY, TILE_OPTIONS, tiles_for
from impls.launch.plan import Contender, DeviceWork, LaunchPlan, Planner, SharedPrefix
from impls.launch.setup import Layer, Rows, Setup
from impls.launch.tile_cache import user_cache
from impls.launch.timing import GraphTimer
from impls.launch.tuning import fastest
from impls.spec import ceil_div
from impls.storage.slots import choice_option, positive_option

DECODER_OPTIONS = (*TILE_OPTIONS, "num_splits", "merge")
"""``impl.options`` that a decoder takes."""
MERGES = ("after", "overlap")


class TritonDecoder:
    """Launches the decode kernel.

    Args:
        setup: the kernels, the model and the device.
        options: ``block_tokens``, ``num_warps`` and ``num_stages`` of the decode kernel, which
            otherwise ``tune`` chooses. ``num_splits`` replaces the choice of the cost model. ``merge``
            is ``after`` (parts are merged by a kernel that is launched when the decode kernel has
            ended, the default) or ``overlap`` (it is launched before, and waits on the device:
            programmatic dependent launch).

    Raises:
        ValueError: an option is out of range.
        Unsupported: the device cannot overlap kernels.
    """

    def __init__(self, setup: Setup, options: Mapping[str, object]) -> None:
        self._setup = setup
        self._model = setup.model
        self._overlap = choice_option(options, "merge", MERGES) == "overlap"
        if self._overlap and (setup.kernels.are_interpreted or setup.target.capability < MIN_OVERLAP_CAPABILITY):
            raise Unsupported("impl.options.merge=overlap needs a CUDA device of compute capability 9.0")
        self._planner = Planner(setup, positive_option(options, "num_splits", None))
        tiles = tiles_for(setup.model, options)
        self.tiles = tiles[:1] if setup.kernels.are_interpreted else tiles  # an interpreter's time means nothing
        self.tile = self.tiles[0]
        self._chosen: dict[tuple[int, ...], Contender] = {}
        self.facts: dict[str, str | int | float | None] = {}

    def plan(self, host_lens: NDArray[np.int32]) -> LaunchPlan:
        """Return how to launch a batch of these lengths, by what ``tune`` chose for its class.

        Args:
            host_lens: int32 ``[num_seqs]``. 0 for a padding row, whose output is zeros.
        """
        contender = self._chosen.get(tuple(_batch_class(host_lens).values()), Contender(tile=self.tile))
        return self._planner.plan(contender, host_lens)

    def plan_cascade(self, host_lens: NDArray[np.int32], shared_tokens: int) -> LaunchPlan:
        """Return how to launch a batch whose sequences share their first ``shared_tokens`` tokens.

        Args:
            host_lens: int32 ``[num_seqs]``, the shared tokens included.
            shared_tokens: a multiple of the page size.

        Raises:
            Unsupported: the model has a window, behind which the prefix falls.
        """
        if self._model.sliding_window is not None:
            raise Unsupported(f"a cascade cannot have model.sliding_window={self._model.sliding_window}")
        return self._planner.plan_cascade(Contender(tile=self.tile), host_lens, shared_tokens)

    def tune(self, query: Tensor, layer: Layer, rows: Rows) -> LaunchPlan:
        """Take the choice kept on disk for such a batch, or time all contenders. Return the plan of the batch.

        Without a GPU the only contender is run once, which compiles it.
        """
        plans = self._planner.contenders(self.tiles, rows.host_lens)
        calls = {contender: partial(self.attend, query, layer, rows, plan) for contender, plan in plans.items()}
        refused: dict[Contender, str] = {}
        if len(plans) == 1:
            chosen, source = fastest(calls, self._setup.device), "the only one"
        else:
            question = self._setup.question | layer.options | {"merge": self._overlap} | _batch_class(rows.host_lens)
            times_us: dict[str, float] = {}
            time_them = partial(_time, calls, self._setup.device, times_us, refused)
            chosen, source = user_cache().choose(question, list(plans), time_them, times_us)
            calls[chosen]()
        self.tile = chosen.tile
        self._chosen[tuple(_batch_class(rows.host_lens).values())] = chosen
        plan = plans[chosen]
        self.facts = {
            "kernel_choice": f"{chosen} ({source}), {plan.num_splits} splits, {plan.num_programs:,} programs"
            + "".join(f"; {one} refused: {reason}" for one, reason in refused.items()),
            "num_splits": plan.num_splits,
            "block_tokens": chosen.tile.block_tokens,
            "num_warps": chosen.tile.num_warps,
            "num_stages": chosen.tile.num_stages,
        }
        return plan

    def attend(self, query: Tensor, layer: Layer, rows: Rows, plan: LaunchPlan, lse: Tensor | None = None) -> Tensor:
        """Compute attention of one new token per sequence over one layer. See ``KVCache.decode``.

        Args:
            query: ``[num_seqs, num_query_heads, head_dim]``.
            layer: K and V.
            rows: where each sequence's K and V are.
            plan: what ``plan`` or ``tune`` returned for these rows.
            lse: float32 ``[num_seqs, num_query_heads]`` to be filled. See ``ExtendedKVCache.decode_with_lse``.
        """
        query = query.contiguous()
        out = torch.empty_like(query)
        work = plan.work
        if work is not None and plan.shared is not None:
            self._attend_prefix(query, layer, rows, work, plan.shared)
        self._setup.kernels.decode[(plan.num_programs,)](
            out,
            None if work is None else work.parts,
            None if work is None else work.part_lse,
            lse,
            query,
            *layer,
            rows.table,
            rows.seq_lens,
            None if work is None else work.items,
            rows.table.stride(0),
            self._setup.scale,
            BLOCK_GROUP=plan.tile.block_group,
            BLOCK_DIM=plan.tile.block_dim,
            BLOCK_TOKENS=plan.tile.block_tokens,
            NUM_STAGES=plan.tile.num_stages,
            OVERLAP=self._overlap and plan.num_splits > 1,
            num_warps=plan.tile.num_warps,
            maxnreg=heuristics.register_limit(
                plan.tile,
                head_dim=self._model.head_dim,
                element_bytes=self._model.element_bytes,
                stored_bytes=self._model.stored_bytes,
            ),
            **self._setup.constants,
        )
        if work is not None and work.parts is not None:
            self._merge(out, lse, layer, work, plan.tile.block_dim)
        return out

    def _attend_prefix(self, query: Tensor, layer: Layer, rows: Rows, work: DeviceWork, shared: SharedPrefix) -> None:
        """Fill the parts of the shared prefix. The pages of the first sequence are those of all."""
        model = self._model
        tile = heuristics.prefill_tile(head_dim=model.head_dim, element_bytes=model.element_bytes)
        num_rows = len(query) * model.group_size
        constants = {name: value for name, value in self._setup.constants.items() if name != "WINDOW"}
        self._setup.kernels.prefix[(model.num_kv_heads, ceil_div(num_rows, tile.block_rows), shared.num_parts)](
            work.parts,
            work.part_lse,
            query,
            layer.keys,
            layer.values,
            layer.scales,
            layer.slopes,
            rows.table,
            rows.seq_lens,
            work.part_indptr,
            num_rows,
            shared.num_tokens,
            shared.part_tokens,
            self._setup.scale,
            BLOCK_ROWS=tile.block_rows,
            BLOCK_DIM=tile.block_dim,
            BLOCK_TOKENS=tile.block_tokens,
            NUM_STAGES=tile.num_stages,
            num_warps=tile.num_warps,
            **constants,
        )

    def _merge(self, out: Tensor, lse: Tensor | None, layer: Layer, work: DeviceWork, block_dim: int) -> None:
        num_query_heads = self._model.num_query_heads
        self._setup.kernels.merge[(len(work.merged_seqs) * num_query_heads,)](
            out,
            lse,
            work.parts,
            work.part_lse,
            layer.sinks,
            work.merged_seqs,
            work.part_indptr,
            NUM_QUERY_HEADS=num_query_heads,
            HEAD_DIM=self._model.head_dim,
            BLOCK_DIM=block_dim,
            BLOCK_SPLITS=heuristics.MERGE_SPLITS,
            OVERLAP=self._overlap,
            launch_pdl=self._overlap,
        )


def _time(
    calls: Mapping[Contender, partial[Tensor]],
    device: torch.device,
    times_us: dict[str, float],
    refused: dict[Contender, str],
) -> Contender:
    """Return the fastest call, by graph replays on a GPU. Fill in the least times, and why a call is refused."""
    timer = GraphTimer(device) if device.type == "cuda" else None
    chosen = fastest(calls, device, timer, refused)
    if timer is not None:
        times_us.update({str(one): timer.least_us[call] for one, call in calls.items() if call in timer.least_us})
    return chosen


def _batch_class(host_lens: NDArray[np.int32]) -> dict[str, int]:
    """Batches that share a choice: sequences, longest and mean length, each up to the next power of two."""
    num_seqs, longest = len(host_lens), int(host_lens.max())
    return {
        "num_seqs": heuristics.next_power_of_2(num_seqs),
        "max_seq_len": heuristics.next_power_of_2(max(longest, 1)),
        "mean_seq_len": heuristics.next_power_of_2(max(int(host_lens.sum(dtype=np.int64)) // num_seqs, 1)),
    }
