"""One step of the online softmax (Milakov and Gimelshein, 2018), for every attention kernel here.

Scores are in base two: log2(e) is part of their scale. A ``bias`` of ``None`` leaves no instruction.
"""

import triton
import triton.language as tl

from impls.kernels.runtime import INTERPRETED

# Below every score, yet finite: a lane that has seen no token must not compute inf - inf.
LOWEST = tl.constexpr(-1e30)
_INTERPRETED = tl.constexpr(INTERPRETED)
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def attend_group(query, keys, values, visible, bias, scale, SOFT_CAP: tl.constexpr, lane_max, lane_sum, acc):
    """Attend to one tile, a lane per row of ``query``.

    ``visible`` and ``bias`` are ``[rows, tokens]``, or ``[1, tokens]`` for all rows.
    """
    weights, rescale, lane_max, lane_sum = _weigh(query, keys, visible, bias, scale, SOFT_CAP, lane_max, lane_sum)
    return lane_max, lane_sum, dot(weights.to(values.dtype), values, acc * rescale[:, None])


@triton.jit
def attend_pairs(
    query, keys, even, odd, visible, bias, scale, SOFT_CAP: tl.constexpr, lane_max, lane_sum, acc, odd_acc
):
    """Do as ``attend_group`` with the even and the odd dims of the values apart, each with its own ``acc``."""
    weights, rescale, lane_max, lane_sum = _weigh(query, keys, visible, bias, scale, SOFT_CAP, lane_max, lane_sum)
    weights = weights.to(even.dtype)
    acc = dot(weights, even, acc * rescale[:, None])
    return lane_max, lane_sum, acc, dot(weights, odd, odd_acc * rescale[:, None])


@triton.jit
def attend_single(query, keys, values, visible, bias, scale, SOFT_CAP: tl.constexpr, lane_max, lane_sum, acc):
    """Attend to one tile of one query head, a lane per token of the tile."""
    products = tl.sum(query.to(tl.float32)[None, :] * keys.to(tl.float32), axis=1)
    scores = _scores(products, visible, bias, scale, SOFT_CAP)
    new_max = tl.maximum(lane_max, scores)
    rescale = tl.exp2(lane_max - new_max)
    weights = tl.exp2(scores - new_max)
    acc = acc * rescale[:, None] + weights[:, None] * values.to(tl.float32)
    return new_max, lane_sum * rescale + weights, acc


@triton.jit
def join_lanes(lane_max, lane_sum, acc):
    """Join all lanes by their log-sum-exp. The results are ``[1]``, ``[1]`` and ``[1, BLOCK_DIM]``."""
    new_max = tl.max(lane_max, axis=0, keep_dims=True)
    share = tl.exp2(lane_max - new_max)
    lane_sum = tl.sum(lane_sum * share, axis=0, keep_dims=True)
    return new_max, lane_sum, tl.sum(acc * share[:, None], axis=0, keep_dims=True)


@triton.jit
def add_sink(sink, lane_max, lane_sum):
    """Let a logit without a value join the sum of each lane: its new maximum and sum, and the factor of ``acc``.

    ``sink`` is in base two. -inf adds nothing.
    """
    new_max = tl.maximum(lane_max, sink)
    rescale = tl.exp2(lane_max - new_max)
    return new_max, lane_sum * rescale + tl.exp2(sink - new_max), rescale


@triton.jit
def log_sum_exp(lane_max, lane_sum):
    """Return the log-sum-exp of each lane in base two, -inf where no token was visible."""
    seen = lane_sum > 0
    return tl.where(seen, lane_max + tl.log2(tl.where(seen, lane_sum, 1.0)), float("-inf"))


@triton.jit
def dot(left, right, acc):
    """Return the matrix product plus ``acc``, in float32. "ieee" keeps float32 operands off TF32."""
    if _INTERPRETED:  # Triton's interpreter multiplies bfloat16 as integers (triton issue 11584).
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, acc, input_precision="ieee")


@triton.jit
def _weigh(query, keys, visible, bias, scale, SOFT_CAP: tl.constexpr, lane_max, lane_sum):
    """Return a tile's weights, the factor of the output so far, and the lanes' new maxima and sums."""
    scores = _scores(dot(query, tl.trans(keys), None), visible, bias, scale, SOFT_CAP)
    new_max = tl.maximum(lane_max, tl.max(scores, axis=1))
    rescale = tl.exp2(lane_max - new_max)
    weights = tl.exp2(scores - new_max[:, None])
    return weights, rescale, new_max, lane_sum * rescale + tl.sum(weights, axis=1)


@triton.jit
def _scores(products, visible, bias, scale, SOFT_CAP: tl.constexpr):
    """Return scores in base two, -inf where a token is not visible. The soft cap does not bend the bias."""
    scores = products * scale
    if SOFT_CAP > 0:
        capped = SOFT_CAP * LOG2_E
        scores = tanh(scores / capped) * capped  # the tensor first: the interpreter needs it so
    if bias is not None:
        scores += bias
    return tl.where(visible, scores, float("-inf"))


@triton.jit
def tanh(x):
    """Return the hyperbolic tangent, good to a few units in the last place. Triton has none that can be interpreted.

    Near 0 the exponential form cancels. There the series is used. Its next term is below the epsilon of float32.
    """
    square = x * x
    series = x * (1 - square * (1 / 3 - square * (2 / 15 - square * (17 / 315 - square * (62 / 2835)))))
    shrunk = tl.exp2(tl.abs(x) * (-2 * LOG2_E))
    size = (1 - shrunk) / (1 + shrunk)
    return tl.where(tl.abs(x) < 0.25, series, tl.where(x < 0, -size, size))
