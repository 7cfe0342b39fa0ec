"""Scenario ``capacity``: how many sequences fit, found by admitting until the first refusal.

It needs bookkeeping alone, at any scale. With ``scenario.real=true`` the same sequences are then
allocated and written over all layers, and the bytes of the policy are reconciled with those of the
framework and the system.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.config import build
from bench.config.memory import CapacityScenario
from bench.rows.result import Answer
from bench.scenarios.bookkeeping import bookkeeping
from bench.scenarios.memory.until_refusal import fill_until_refusal


def fill_to_capacity(argument: Mapping[str, Any]) -> Answer:
    """Fill the policy and, with ``scenario.real``, the device.

    Args:
        argument: ``config`` (resolved, plain containers).

    Raises:
        CannotRun: the budget cannot hold even the first sequence.
    """
    config = build(argument["config"])
    assert isinstance(config.scenario, CapacityScenario)
    filled = fill_until_refusal(config)
    answer = Answer(values=bookkeeping(filled) | {"held": config.scenario.held})
    del answer.values["skipped_requests"]  # the queue has no end, so left-out requests cannot be counted
    if config.scenario.real:
        from bench.scenarios.memory.capacity_device import weigh  # imports torch, which bookkeeping does not need

        answer = Answer.merged([answer, weigh(config, filled)])
    return answer
