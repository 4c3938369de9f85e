"""What a daemon takes of its machine, what it says to Prometheus, and how fast it answers."""

from __future__ import annotations

import os
import statistics
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator

Labels = dict[str, str]


@dataclass(frozen=True)
class Vitals:
    """Of a process at one moment: bytes of memory, threads, descriptors."""

    memory: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Vitals:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        return cls(
            memory=int(facts["VmRSS"].split()[0]) * 1024,
            threads=int(facts["Threads"]),
            descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        )


def cpu_seconds(pid: int) -> float:
    """How much CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_arenas(pid: int) -> int:
    """How many arenas glibc's allocator has made for threads beside the main one.

    Each begins at a multiple of 64 MiB, which it reserves: HEAP_MAX_SIZE in glibc's arena.c.
    """
    reserved = 64 * 1024 * 1024
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    unnamed = [line.split()[0].split("-") for line in lines if len(line.split()) == 5]
    ends = {int(start, 16): int(end, 16) for start, end in unnamed}
    begins = [start for start in ends if start % reserved == 0]
    return sum(ends.get(ends[start], 0) >= start + reserved for start in begins)


@dataclass
class Watch:
    """What was seen while a daemon worked: its vitals, and how long ``/livez`` took to answer."""

    vitals: list[Vitals] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    silences: list[str] = field(default_factory=list)

    def quarters(self) -> tuple[Vitals, Vitals]:
        """The medians of the second quarter and of the last: the first one warms up."""
        size = max(len(self.vitals) // 4, 1)
        return _median(self.vitals[size : 2 * size] or self.vitals), _median(self.vitals[-size:])

    def said(self) -> str:
        before, after = self.quarters()
        size = max(len(self.vitals) // 8, 1)
        parts = [self.vitals[start : start + size] for start in range(0, 8 * size, size)]
        memory = " ".join(f"{_median(part).memory / 2**20:.1f}" for part in parts if part)
        return (
            f"memory {memory} MiB (medians of eighths), "
            f"threads {before.threads} -> {after.threads}, "
            f"descriptors {before.descriptors} -> {after.descriptors} "
            f"(medians of the second and the last quarter of {len(self.vitals)} samples); "
            f"/livez: {len(self.answers)} answers, the slowest after "
            f"{max(self.answers, default=0):.3f} s, {len(self.silences)} not within a second"
        )


def _median(samples: list[Vitals]) -> Vitals:
    def of(name: str) -> int:
        return int(statistics.median(getattr(each, name) for each in samples))

    return Vitals(of("memory"), of("threads"), of("descriptors"))


@contextmanager
def watching(pid: int, port: int) -> Iterator[Watch]:
    """Look at a daemon's vitals each second, and ask ``/livez`` five times a second."""
    watch, over = Watch(), threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            watch.vitals.append(Vitals.of(pid))

    def knock() -> None:
        while not over.wait(0.2):
            began = time.monotonic()
            try:
                fetch(port, "/livez", timeout=1.0)
            except OSError as error:
                watch.silences.append(f"{error} after {time.monotonic() - began:.2f} s")
            else:
                watch.answers.append(time.monotonic() - began)

    threads = [threading.Thread(target=each) for each in (look, knock)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()


def fetch(port: int, path: str, *, timeout: float = 10.0) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
        text: str = answer.read().decode()
        return text


@dataclass(frozen=True)
class Scrape:
    """What ``/metrics`` says at one moment."""

    samples: tuple[tuple[str, Labels, float], ...]

    @classmethod
    def of(cls, port: int) -> Scrape:
        return cls(
            tuple(
                (sample.name, sample.labels, sample.value)
                for family in text_string_to_metric_families(fetch(port, "/metrics"))
                for sample in family.samples
            )
        )

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series with these labels."""
        return sum(
            value
            for each, found, value in self.samples
            if each == name and all(found.get(key) == labels[key] for key in labels)
        )
