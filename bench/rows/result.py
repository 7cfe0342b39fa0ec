"""The result of one process of a point: values for columns, reasons for nulls, raw samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class WrongOutput(Exception):
    """The result of an implementation is wrong. The row becomes ``incorrect`` with this message."""

    def __init__(self, message: str, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.values = dict(values or {})  # columns that are known already


@dataclass(kw_only=True)
class Answer:
    """The result of one process. Those of a point are merged into one row.

    Attributes:
        status: one of ``bench.rows.record.STATUSES``.
        status_reason: one sentence, if the status is not ok.
        values: values by column.
        null_reasons: reasons of nulls by column.
        samples: raw samples by name.
        artifacts: contents of JSON files for the run folder, by name.
    """

    status: str = "ok"
    status_reason: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    null_reasons: dict[str, str] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)

    def leave_null(self, reason: str, *names: str) -> None:
        """Set the reason why these columns have no value."""
        self.null_reasons.update(dict.fromkeys(names, reason))

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        return asdict(self)

    @classmethod
    def merged(cls, answers: Iterable[Answer]) -> Answer:
        """Return one result of several processes. The first that is not ok decides the status."""
        whole = cls()
        for answer in answers:
            if whole.status == "ok":
                whole.status, whole.status_reason = answer.status, answer.status_reason
            whole.values.update(answer.values)
            whole.null_reasons.update(answer.null_reasons)
            whole.samples.update(answer.samples)
            whole.artifacts.update(answer.artifacts)
        return whole
