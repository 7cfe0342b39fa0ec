"""Requests of every workload: lengths, limits, seeds, and the mid-decode draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import (
    FixedWorkload,
    LognormalWorkload,
    QuantileWorkload,
    TraceWorkload,
    UniformWorkload,
    Workload,
    build,
)
from bench.workload.requests import Requests, draw_requests, mid_decode_lens
from bench.workload.streams import Stream, generator
from tests.support.points import values

SEEDS = st.integers(min_value=0, max_value=2**40)
QUANTILES = {"levels": (0.0, 0.5, 1.0), "prompt_quantiles": (1.0, 20.0, 700.0), "output_quantiles": (5.0, 50.0, 900.0)}
SYNTHETIC = st.sampled_from(
    [
        FixedWorkload(length=7),
        UniformWorkload(),
        UniformWorkload(low=1, high=1, prompt_ratio=0.01),
        LognormalWorkload(),
        QuantileWorkload(name="alpaca", **QUANTILES),
        LognormalWorkload(prompt_mean=900, output_mean=900, prompt_sigma=2.0),
    ]
)


@settings(deadline=None, max_examples=60)
@given(workload=SYNTHETIC, seed=SEEDS, few=st.integers(1, 40), more=st.integers(0, 6000))
def test_the_first_requests_do_not_depend_on_their_number(workload: Workload, seed: int, few: int, more: int) -> None:
    some = draw_requests(workload, num_seqs=few, max_seq_len=1024, seed=seed)
    many = draw_requests(workload, num_seqs=few + more, max_seq_len=1024, seed=seed)
    assert np.array_equal(some.prompt_lens, many.prompt_lens[:few])
    assert np.array_equal(some.output_lens, many.output_lens[:few])
    assert np.array_equal(mid_decode_lens(some, seed), mid_decode_lens(many, seed)[:few])


@settings(deadline=None, max_examples=60)
@given(workload=SYNTHETIC, seed=SEEDS, num_seqs=st.integers(1, 200))
def test_every_request_fits_and_is_between_prompt_and_end(workload: Workload, seed: int, num_seqs: int) -> None:
    requests = draw_requests(workload, num_seqs=num_seqs, max_seq_len=1024, seed=seed)
    assert len(requests) == num_seqs
    assert requests.prompt_lens.dtype == requests.output_lens.dtype == np.int64
    assert requests.prompt_lens.min() >= 1
    assert requests.output_lens.min() >= 0
    assert requests.final_lens.max() <= 1024
    seq_lens = mid_decode_lens(requests, seed)
    assert seq_lens.dtype == np.int64
    decoding = requests.output_lens > 0
    assert np.all(seq_lens >= requests.prompt_lens)
    assert np.all(seq_lens[decoding] < requests.final_lens[decoding])
    assert np.array_equal(seq_lens[~decoding], requests.prompt_lens[~decoding])


@pytest.mark.parametrize(("name", "means"), [("sharegpt", (161.31, 337.99)), ("alpaca", (19.31, 58.45))])
def test_the_stand_ins_have_the_papers_means(name: str, means: tuple[float, float]) -> None:
    config = build(values(f"workload={name}", "model=opt-13b"))
    assert isinstance(config.workload, QuantileWorkload)
    requests = draw_requests(config.workload, num_seqs=100_000, max_seq_len=2048, seed=0)
    assert (requests.prompt_lens.mean(), requests.output_lens.mean()) == pytest.approx(means, rel=0.03), (
        "less what the limit takes"
    )
    for lens, quantiles in (
        (requests.prompt_lens, config.workload.prompt_quantiles),
        (requests.output_lens, config.workload.output_quantiles),
    ):
        drawn = np.quantile(lens, config.workload.levels[1:-1])
        assert drawn == pytest.approx(quantiles[1:-1], rel=0.1, abs=1), "what was asked for, within sampling"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"levels": (0.0, 0.5)}, r"workload.levels=\[0.0, 0.5\] must ascend from 0 to 1"),
        ({"levels": (0.0, 0.6, 0.5, 1.0)}, "must ascend from 0 to 1"),
        ({"prompt_quantiles": (1.0, 2.0)}, r"workload.prompt_quantiles=\[1.0, 2.0\] must be 3 ascending lengths"),
        ({"output_quantiles": (9.0, 2.0, 10.0)}, "workload.output_quantiles=.* must be 3 ascending lengths"),
        ({"output_quantiles": (0.5, 2.0, 10.0)}, r"workload.output_quantiles\[0\]=0.5 must be at least 1"),
    ],
)
def test_wrong_quantiles_are_one_sentence(change: dict[str, tuple[float, ...]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        QuantileWorkload(name="alpaca", **{**QUANTILES, **change})


def test_long_conversations_are_cut_before_they_are_left_out(tmp_path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_len,output_len\n,5000,30\n,20,900\n,10,10\n")
    cut = TraceWorkload(path=str(path), most_prompt_tokens=100, most_output_tokens=50)
    requests = draw_requests(cut, num_seqs=3, max_seq_len=150, seed=0)
    assert requests.prompt_lens.tolist() == [100, 20, 10]
    assert requests.output_lens.tolist() == [30, 50, 10]
    assert requests.skipped == 0
    with pytest.raises(ValueError, match=r"workload\.most_prompt_tokens=0 must be at least 1"):
        TraceWorkload(path=str(path), most_prompt_tokens=0)


def test_fixed_gives_exactly_its_length_in_mid_decode() -> None:
    requests = draw_requests(FixedWorkload(length=77), num_seqs=3, max_seq_len=77, seed=5)
    assert requests.output_lens.tolist() == [0, 0, 0]
    assert mid_decode_lens(requests, seed=5).tolist() == [77, 77, 77]


def test_uniform_reaches_both_ends_and_splits_by_ratio() -> None:
    requests = draw_requests(UniformWorkload(low=3, high=6, prompt_ratio=0.25), num_seqs=500, max_seq_len=6, seed=0)
    assert set(requests.final_lens.tolist()) == {3, 4, 5, 6}
    prompt_of = dict(zip(requests.final_lens.tolist(), requests.prompt_lens.tolist(), strict=True))
    assert prompt_of == {3: 1, 4: 1, 5: 1, 6: 2}  # halves to even, as round() does


def test_uniform_has_the_mean_of_the_notebook() -> None:
    requests = draw_requests(UniformWorkload(), num_seqs=50_000, max_seq_len=1024, seed=1)
    assert requests.final_lens.mean() == pytest.approx((10 + 1024) / 2, abs=5)  # four standard errors


def test_lognormal_has_its_means_without_rejections() -> None:
    workload = LognormalWorkload(prompt_sigma=0.8, output_sigma=0.5)
    requests = draw_requests(workload, num_seqs=200_000, max_seq_len=10**9, seed=2)
    assert requests.skipped == 0
    assert requests.prompt_lens.mean() == pytest.approx(161.31, rel=0.01)
    assert requests.output_lens.mean() == pytest.approx(337.99, rel=0.01)
    assert np.log(requests.output_lens).std() == pytest.approx(0.5, rel=0.02)


def test_lognormal_counts_its_rejections() -> None:
    free = draw_requests(LognormalWorkload(), num_seqs=4000, max_seq_len=10**9, seed=3)
    kept = draw_requests(LognormalWorkload(), num_seqs=3000, max_seq_len=800, seed=3)
    drawn = len(kept) + kept.skipped
    fits = free.final_lens[:drawn] <= 800
    assert kept.skipped == np.count_nonzero(~fits) > 0
    assert np.array_equal(kept.final_lens, free.final_lens[:drawn][fits])


def test_lognormal_without_spread_is_constant() -> None:
    workload = LognormalWorkload(prompt_mean=5, prompt_sigma=0, output_mean=1, output_sigma=0)
    requests = draw_requests(workload, num_seqs=4, max_seq_len=6, seed=0)
    assert requests.prompt_lens.tolist() == [5, 5, 5, 5]
    assert requests.output_lens.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("workload", "sentence"),
    [
        (FixedWorkload(length=1025), "workload.length=1025 must be at most model.max_seq_len=1024"),
        (UniformWorkload(high=2000), "workload.high=2000 must be at most model.max_seq_len=1024"),
        (
            LognormalWorkload(prompt_mean=1e6, prompt_sigma=0.1),
            "workload.prompt_mean=1000000.0 .* model.max_seq_len=1024",
        ),
        (LognormalWorkload(output_mean=1e300), "workload.output_mean=1e.300 are too long"),
    ],
)
def test_lengths_above_the_model_are_refused_by_name(workload: Workload, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw_requests(workload, num_seqs=2, max_seq_len=1024, seed=0)


def test_another_seed_gives_other_requests() -> None:
    draws = [draw_requests(UniformWorkload(), num_seqs=20, max_seq_len=1024, seed=seed) for seed in (0, 1, 1)]
    assert not np.array_equal(draws[0].final_lens, draws[1].final_lens)
    assert np.array_equal(draws[1].final_lens, draws[2].final_lens)
    assert not np.array_equal(mid_decode_lens(draws[0], 0), mid_decode_lens(draws[0], 1))


def test_no_two_purposes_share_a_random_stream() -> None:
    assert len({generator(7, stream).random() for stream in Stream}) == len(Stream)


def test_a_trace_sample_keeps_file_order_and_everything_of_a_request(fixture_trace: Callable[[str], str]) -> None:
    workload = TraceWorkload(path=fixture_trace("mooncake.jsonl"))
    requests = draw_requests(workload, num_seqs=2, max_seq_len=513, seed=0)  # the longer one has exactly 513
    assert requests.skipped == 1
    assert requests.prompt_lens.tolist() == [512, 3]
    assert requests.arrivals_s is not None
    assert requests.arrivals_s.tolist() == [0.0, 2.999]
    assert requests.hash_ids == [[0], [4]]
    assert requests.hash_block_tokens == 512


def test_a_trace_that_is_too_short_names_how_many_fit(fixture_trace: Callable[[str], str]) -> None:
    workload = TraceWorkload(path=fixture_trace("mooncake.jsonl"))
    with pytest.raises(ValueError, match=r"num_seqs=3 .* 2 requests .* model.max_seq_len=1000 \(1 are longer\)"):
        draw_requests(workload, num_seqs=3, max_seq_len=1000, seed=0)


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, few=st.integers(1, 20), more=st.integers(0, 20))
def test_a_smaller_trace_sample_is_part_of_a_larger_one(
    tmp_path_factory: pytest.TempPathFactory, seed: int, few: int, more: int
) -> None:
    trace = tmp_path_factory.mktemp("trace") / "lengths.csv"
    trace.write_text("num_prefill_tokens,num_decode_tokens\n" + "".join(f"{n},1\n" for n in range(1, 51)))
    workload = TraceWorkload(path=str(trace))
    some = draw_requests(workload, num_seqs=few, max_seq_len=45, seed=seed).prompt_lens.tolist()
    many = draw_requests(workload, num_seqs=few + more, max_seq_len=45, seed=seed).prompt_lens.tolist()
    assert set(some) <= set(many)
    assert len(set(many)) == few + more
    assert many == sorted(many)


def test_requests_refuse_columns_that_do_not_belong_together() -> None:
    ones = np.ones(2, dtype=np.int64)
    with pytest.raises(ValueError, match="differ in length"):
        Requests(prompt_lens=ones, output_lens=ones[:1])
    with pytest.raises(ValueError, match="hash_block_tokens"):
        Requests(prompt_lens=ones, output_lens=ones, hash_ids=[[1], [2]])
