"""What the server counts, in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter

_HELP = {
    "requests": "HTTP requests, by path and status.",
    "answers": "Sources answered.",
    "batches": "Batches run; answers/batches is the mean batch.",
    "batch_seconds": "Seconds that the models ran.",
    "cancelled": "Sources whose clients left before the answer.",
    "rejected": "Requests turned away because the line was full.",
}
_LATENCIES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """Counters and a histogram of latencies; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str], float] = {}
        self._latencies: Counter[float] = Counter()
        self._latency_sum, self._latency_count = 0.0, 0

    def add(self, name: str, value: float = 1, labels: str = "") -> None:
        """Count something up; labels as Prometheus writes them, say path="/health"."""
        with self._lock:
            key = name, labels
            self._sums[key] = self._sums.get(key, 0.0) + value

    def observe(self, seconds: float) -> None:
        """Note how long an answer took from the arrival of its request."""
        with self._lock:
            self._latency_sum += seconds
            self._latency_count += 1
            self._latencies.update(limit for limit in _LATENCIES_S if seconds <= limit)

    def render(self, num_waiting: int) -> str:
        """All of it as text."""
        with self._lock:
            lines = ["# HELP diffuseq_waiting Sources in the line.", "# TYPE diffuseq_waiting gauge"]
            lines.append(f"diffuseq_waiting {num_waiting}")
            for name, text in _HELP.items():
                lines += [f"# HELP diffuseq_{name}_total {text}", f"# TYPE diffuseq_{name}_total counter"]
                values = {labels: value for (key, labels), value in self._sums.items() if key == name}
                for labels, value in sorted((values or {"": 0}).items()):
                    lines.append(f"diffuseq_{name}_total{{{labels}}} {value:.15g}".replace("{}", ""))
            name = "diffuseq_latency_seconds"
            lines += [f"# HELP {name} From request to answer.", f"# TYPE {name} histogram"]
            lines += [f'{name}_bucket{{le="{limit:g}"}} {self._latencies[limit]}' for limit in _LATENCIES_S]
            lines.append(f'{name}_bucket{{le="+Inf"}} {self._latency_count}')
            lines += [f"{name}_sum {self._latency_sum:.15g}", f"{name}_count {self._latency_count}"]
        return "\n".join(lines) + "\n"
