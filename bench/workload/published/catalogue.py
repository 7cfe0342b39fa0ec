"""Published request traces: address, SHA-256 of the content, and licence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, kw_only=True)
class PublishedTrace:
    """One file of a public repository, at one revision.

    Attributes:
        name: name of the file.
        url: address of the file.
        sha256: hex digest of the content as published.
        size_bytes: length of the file.
        licence: as the repository states it.
        cite: authors, title and venue.
    """

    name: str
    url: str
    sha256: str
    size_bytes: int
    licence: str
    cite: str

    def mirrored(self, address: str) -> PublishedTrace:
        """Return the same file at another address."""
        return replace(self, url=f"{address.rstrip('/')}/{self.name}")


_RAW: Final = "https://raw.githubusercontent.com"
_AZURE: Final = f"{_RAW}/Azure/AzurePublicDataset/790921015d50dd6aae7f7e47f39ba0e235ad6b08/data"
_MOONCAKE: Final = f"{_RAW}/kvcache-ai/Mooncake"
_SARATHI: Final = f"{_RAW}/microsoft/sarathi-serve/72339db5b120614033b317880ad3a05a5e4c9415/data/processed_traces"

TRACES: Final = (
    PublishedTrace(
        name="AzureLLMInferenceTrace_conv.csv",
        url=f"{_AZURE}/AzureLLMInferenceTrace_conv.csv",
        sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        size_bytes=719188,
        licence="CC-BY-4.0",
        cite="Patel et al., Splitwise, ISCA 2024",
    ),
    PublishedTrace(
        name="AzureLLMInferenceTrace_code.csv",
        url=f"{_AZURE}/AzureLLMInferenceTrace_code.csv",
        sha256="54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        size_bytes=320117,
        licence="CC-BY-4.0",
        cite="Patel et al., Splitwise, ISCA 2024",
    ),
    PublishedTrace(
        name="conversation_trace.jsonl",
        url=f"{_MOONCAKE}/a2a4b18ac537fd798d50e6e9f57031ce86419a37/FAST25-release/traces/conversation_trace.jsonl",
        sha256="b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        size_bytes=3029533,
        licence="Apache-2.0",
        cite="Qin et al., Mooncake, FAST 2025",
    ),
    PublishedTrace(
        name="synthetic_trace.jsonl",
        url=f"{_MOONCAKE}/3cca71daccf2a7afb8fe3f0295358f70e3a69fdb/FAST25-release/traces/synthetic_trace.jsonl",
        sha256="bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
        size_bytes=1136313,
        licence="Apache-2.0",
        cite="Qin et al., Mooncake, FAST 2025",
    ),
    PublishedTrace(
        name="sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
        url=f"{_SARATHI}/sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
        sha256="6d6c296302a853e2669a674a96f269283e60c57e60363bd450588a1066919f9f",
        size_bytes=949600,
        licence="Apache-2.0",
        cite="Agrawal et al., Sarathi-Serve, OSDI 2024",
    ),
)
"""The traces that ``scripts/fetch_traces.py`` can download."""
