"""Prometheus metrics of a server, in a registry of their own.

Labels are bounded: routes, statuses, versions of the ledger and names of errors; never a text, a user or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class ServeMetrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "strop_requests", "Responses by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "strop_request_seconds", "Time to the end of a response", ["route"], buckets=SECONDS, registry=registry
        )
        self.first_seconds = Histogram(
            "strop_first_event_seconds", "Time to the first event of an engine", buckets=SECONDS, registry=registry
        )
        self.answers = Counter("strop_answers", "Complete answers by version", ["version"], registry=registry)
        self.tokens = Counter("strop_tokens", "Tokens of prompts and answers", ["kind"], registry=registry)
        self.cancelled = Counter("strop_cancelled", "Requests whose client closed the connection", registry=registry)
        self.active = Gauge("strop_active_requests", "Requests that are answered", registry=registry)
        self.waiting = Gauge("strop_waiting_requests", "Requests in the queue", registry=registry)
        self.version = Gauge("strop_champion_version", "The version in service; 0: none", registry=registry)
        self.swaps = Counter("strop_swaps", "Changes of the version in service", registry=registry)
        self.fallbacks = Counter(
            "strop_canary_fallbacks", "Answers of the champion in place of a canary that failed", registry=registry
        )
        self.shadow_answers = Counter(
            "strop_shadow_answers", "Answers that nobody saw, by version", ["version"], registry=registry
        )
        self.shadow_dropped = Counter(
            "strop_shadow_dropped", "Requests that the challenger did not answer", ["reason"], registry=registry
        )
        pair = ["version", "champion"]
        self.shadow_exact = Summary(
            "strop_shadow_exact",
            "Greedy answers equal to the champion's; the mean is sum / count",
            pair,
            registry=registry,
        )
        self.shadow_f1 = Summary(
            "strop_shadow_token_f1", "Token F1 of greedy answers and the champion's", pair, registry=registry
        )
        self.refusals = Counter("strop_refused_versions", "Versions that could not be loaded", registry=registry)

    def show_counts(self, name: str, text: str, counts: Callable[[], Mapping[str, int]]) -> None:
        """Reports counts that are kept elsewhere.

        Args:
            counts: value of the label `kind` → count.
        """
        self.registry.register(_Counts(name, text, counts))

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class _Counts(Collector):
    def __init__(self, name: str, text: str, counts: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._text, self._counts = name, text, counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=["kind"])
        for kind, count in self._counts().items():
            family.add_metric([kind], count)
        yield family
