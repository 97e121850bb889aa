"""Counters of our own making, as a Prometheus server holds them and as plain numbers."""

import random
import subprocess

DAY = 86400.0


class Counter:
    """Samples of one series: (time, value), with the growth that really happened beside it."""

    def __init__(self, labels):
        self.labels = labels
        self.samples = []
        self.grown = []
        self.total = 0.0

    def add(self, at, value, growth):
        self.total += growth
        self.samples.append((at, value))
        self.grown.append((at, self.total))


def scrape(seed, start, end, *, labels, restarts=0, step=15.0, most=40):
    """One counter, scraped with jitter; it begins again at zero so many times."""
    chance = random.Random(seed)
    counter = Counter(labels)
    moments = [round(start + step * n + chance.uniform(0, 0.4), 3) for n in range(int((end - start) / step))]
    again = set(chance.sample(range(5, len(moments)), restarts))
    value = float(chance.randrange(50))
    for number, at in enumerate(moments):
        growth = float(chance.randrange(most)) if number else 0.0
        value = growth if number in again else value + growth
        counter.add(at, value, growth)
    return counter


def openmetrics(counters, name):
    lines = [f"# TYPE {name} counter"]
    for counter in counters:
        labels = ",".join(f'{key}="{value}"' for key, value in counter.labels.items())
        lines += [f"{name}_total{{{labels}}} {value} {at}" for at, value in counter.samples]
    return "\n".join(lines)


def write_blocks(text, folder):
    """Let promtool write blocks, as an operator would to bring history in."""
    source = folder / "history.om"
    source.write_text(f"{text}\n# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=744h", "--quiet"]
    subprocess.run([*command, source, folder / "data"], check=True, capture_output=True, timeout=100)
