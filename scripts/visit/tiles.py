"""One process times tiles and splits of the decode kernel with CUDA graphs, cold L2, over several batches."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.measure.intervals import median_interval
from bench.measure.stopping import StoppingRule
from bench.measure.timers.choice import TimerChoice, copies_needed, is_cold
from bench.measure.timers.work import Work
from bench.rows.json_file import write_json
from bench.rows.result import Answer
from impls.interface import KVCache
from scripts.visit.cases import BATCHES, SMALL_BATCHES, Shape, draw, make_cache, write

TILES: tuple[Mapping[str, int], ...] = (
    {"block_tokens": 64, "num_warps": 4, "num_stages": 3},
    {"block_tokens": 32, "num_warps": 4, "num_stages": 4},
    {"block_tokens": 64, "num_warps": 2, "num_stages": 3},
    {"block_tokens": 32, "num_warps": 1, "num_stages": 4},
    {"block_tokens": 32, "num_warps": 2, "num_stages": 4},
    {"block_tokens": 128, "num_warps": 4, "num_stages": 2},
    {"block_tokens": 64, "num_warps": 4, "num_stages": 2},
    {"block_tokens": 128, "num_warps": 8, "num_stages": 3},
)
SPLITS = (1, 2, 3, 6)
RULE = StoppingRule(min_samples=20, max_s=0.06, rel_half_width=0.005)
GUESSED_GBPS = 2500.0
"""Only sizes the graphs. No result depends on it."""


def compile_tile(argument: Mapping[str, Any]) -> Answer:
    """Compile one tile for every batch and number of splits, and run it once.

    Args:
        argument: ``tile``, an index of ``TILES``, and ``device``.
    """
    for shape, splits in itertools.product(BATCHES, SPLITS):
        options = {**TILES[argument["tile"]], "num_splits": splits}
        cache = make_cache(replace(shape, options=options), "paged_triton", argument["device"])
        query, _, _ = draw(replace(shape, lens=(1,) * len(shape.lens)), argument["device"])
        cache.decode(0, query, cache.prepare(range(len(shape.lens))))
        del cache
    return Answer()


class Bench:
    """Times option sets over one batch.

    Args:
        shape: the batch.
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, shape: Shape, device: str) -> None:
        self.shape, self.device = shape, device
        self.kv_bytes = sum(shape.lens) * shape.model.token_bytes_per_layer
        self.copies = 1
        if device == "cuda":
            self.copies = copies_needed(self.kv_bytes, torch.cuda.get_device_properties(0).L2_cache_size)
        self.query, keys, values = draw(shape, device)
        self.filled = make_cache(shape, "paged_triton", device, self.copies)
        write(self.filled, keys, values)
        self.expected: torch.Tensor | None = None

    def time(self, options: Mapping[str, int]) -> dict[str, Any]:
        """Microseconds of one layer's attention, its bandwidth and its difference from the first option set."""
        cache = make_cache(replace(self.shape, options=options), "paged_triton", self.device, self.copies)
        for target, source in zip(cache.tensors, self.filled.tensors, strict=True):
            target.copy_(source)
        batch = cache.prepare(range(len(self.shape.lens)))
        if not options:
            cache.tune(self.query, batch)
        out = cache.decode(0, self.query, batch).float().clone()
        if self.expected is None:
            self.expected = out
        difference = float((out - self.expected).norm() / self.expected.norm())
        return {**self._samples(cache, batch), "difference": difference, "details": dict(cache.details())}

    def _samples(self, cache: KVCache, batch: Any) -> dict[str, Any]:
        tensors, half = cache.tensors, len(cache.tensors) // 2
        work = Work(call=lambda layer: cache.decode(layer, self.query, batch),
                    copies=[(tensors[i], tensors[half + i]) for i in range(self.copies)],
                    bytes_per_call=self.kv_bytes)  # fmt: skip
        if self.device == "cpu":
            from bench.measure.timers.host import time_on_host

            samples = time_on_host(lambda: work.call(0), RULE, warmup_ms=1)
        else:
            from bench.measure.timers.graph import time_with_graph

            choice = TimerChoice(timer="graph", reason="a graph of many calls", copies=self.copies,
                                 predicted_us=self.kv_bytes / GUESSED_GBPS / 1000)  # fmt: skip
            cold = is_cold(self.copies, self.kv_bytes, torch.cuda.get_device_properties(0).L2_cache_size)
            samples = time_with_graph(work, RULE, warmup_ms=2, calls=choice.graph_calls,
                                      l2_mode="cold" if cold else "hot")  # fmt: skip
        low, median, high = median_interval(samples.values_us)
        gbps = (self.kv_bytes + 2 * self.query.nbytes) / median / 1000
        return {"us": median, "us_low": low, "us_high": high, "samples": len(samples.values_us),
                "calls": samples.calls_per_sample, "copies": samples.copies, "timer": samples.timer,
                "l2_mode": samples.l2_mode, "gbps": gbps}  # fmt: skip


def failed_tiles(out: Path) -> set[int]:
    """Return the tiles that the ``check`` step could not compile and run, each in a process of its own."""
    path = out.parent / "check" / "check.json"
    compiled = json.loads(path.read_text(encoding="utf-8"))["compiled"] if path.is_file() else {}
    return {index for index in range(len(TILES)) if compiled.get(f"tile {index}", {}).get("status") == "crashed"}


def measure(
    batches: Sequence[Shape], device: str, deadline: float, save: Any, skipped: Collection[int] = ()
) -> list[dict[str, Any]]:
    """Time the default, then every tile and number of splits. What fails is a result, too."""
    results: list[dict[str, Any]] = []
    for shape in batches:
        try:
            bench = Bench(shape, device)
        except Exception as error:
            traceback.print_exc()
            results.append({"batch": shape.name, "error": f"{type(error).__name__}: {str(error)[:300]}"})
            continue
        tiles = [tile for index, tile in enumerate(TILES) if index not in skipped]
        sets: list[dict[str, int]] = [{}, *({**tile, "num_splits": splits} for tile in tiles for splits in SPLITS)]
        for options in sets[:3] if device == "cpu" else sets:
            if time.monotonic() > deadline:
                results.append({"batch": shape.name, "error": "no time was left for the rest"})
                return results
            try:
                found = bench.time(options)
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            results.append({"batch": shape.name, "options": options, **found})
            told = found.get("error") or f"{found['us']:.2f} us, {found['gbps']:.0f} GB/s"
            print(f"{shape.name}: {options or 'default'}: {told}", flush=True)
            save(results)
        del bench
        if device == "cuda":
            torch.cuda.empty_cache()
    return results


def main() -> int:
    """Write tiles.json. Exit 0 if anything was timed, 4 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of tiles.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=75.0)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()

    def save(results: list[dict[str, Any]]) -> None:
        write_json(arguments.out / "tiles.json", {"results": results})

    batches = SMALL_BATCHES if arguments.small else BATCHES
    skipped = failed_tiles(arguments.out)
    for index in sorted(skipped):
        print(f"left out, because it crashed in the check step: {TILES[index]}", flush=True)
    results = measure(batches, arguments.device, time.monotonic() + arguments.budget_s, save, skipped)
    save(results)
    timed = [result for result in results if "us" in result]
    for shape in batches:
        best = sorted((r for r in timed if r["batch"] == shape.name), key=lambda r: r["us"])[:3]
        for result in best:
            print(f"best of {shape.name}: {result['options'] or 'default'} {result['us']:.2f} us")
    return 0 if timed else 4


if __name__ == "__main__":
    sys.exit(main())
