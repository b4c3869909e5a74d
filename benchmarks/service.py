"""Photos per second over HTTP on loopback, and by the same threads without HTTP.

The service and the bare engine (decode and detect, as many threads, no HTTP) take turns in short
windows, so that both meet the machine in the same moods. The clients run on the same cores: what they cost is
the service's loss. On a machine that others use too, photos per second say who was given how much of it; the
processor time a photo takes does not depend on that. At the end more clients come than there are places.

    python benchmarks/service.py                 a minute of service, half a minute of bare engine
    python benchmarks/service.py --seconds 300   whether memory stays flat
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fewbox.data.formats import read_annotations
from fewbox.data.images import find_photos, read_reduced, read_size_hw
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection.detector import Detector
from fewbox.finetuning import finetune
from machine import DUCKY, SHARED, describe_machine

NANO = SHARED / "weights/yolox_nano_coco.onnx"
WINDOW_SECONDS = 10.0
BURST_CLIENTS, BURST_SECONDS = 48, 5.0


@dataclass
class Tally:
    """What clients have met: answers by status, seconds of the good ones, other faults."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Alternate, then print what was met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", type=Path, help="default: YOLOX-nano taught the ducks now")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60, help="of service, in all")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parsed = parser.parse_args()
    print(describe_machine())
    photos = [path.read_bytes() for path in find_photos(DUCKY / "test")]
    with tempfile.TemporaryDirectory() as folder:
        detector = parsed.detector or teach(Path(folder) / "duck.safetensors")
        server, port = start(detector, parsed.workers)
        try:
            measure(server.pid, port, detector, photos, parsed)
        finally:
            server.terminate()
            server.wait()


def teach(path: Path) -> Path:
    """A detector of ducks."""
    annotations = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="duck")
    finetune(annotations, str(NANO), recipe="seed", show_progress=False).save(path)
    return path


def start(detector: Path, workers: int) -> tuple[subprocess.Popen[str], int]:
    """The service in a process of its own, and its port."""
    command = [sys.executable, "-m", "fewbox.cli", "serve", str(detector), "--port", "0"]
    server = subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("serving at"):
            return server, int(line.rpartition(":")[2])
    raise RuntimeError("the service did not start")


def measure(pid: int, port: int, detector: Path, photos: list[bytes], parsed: argparse.Namespace) -> None:
    """Let the service and the bare engine take turns; print the figures."""
    bare = BareEngine(detector, parsed.workers)
    path = f"/v1/detectors/{detector.stem}/detect"
    ask(port, path, photos, parsed.clients, 2.0)  # warms up
    bare.run(photos, 2.0)
    total, rates, bare_rates, memory = Tally(), [], [], []
    bare_cpu = service_cpu = client_cpu = bare_photos = 0.0
    for _ in range(max(1, round(parsed.seconds / WINDOW_SECONDS))):
        before = time.process_time()
        bare_rates.append(bare.run(photos, WINDOW_SECONDS / 2))
        bare_cpu += time.process_time() - before
        bare_photos += bare.num_photos
        before, before_service = time.process_time(), processor_seconds(pid)
        start = time.perf_counter()
        tally = ask(port, path, photos, parsed.clients, WINDOW_SECONDS)
        rates.append(tally.statuses[200] / (time.perf_counter() - start))
        client_cpu += time.process_time() - before
        service_cpu += processor_seconds(pid) - before_service
        total.statuses += tally.statuses
        total.seconds += tally.seconds
        total.faults += tally.faults
        memory.append(resident_mb(pid))
        print(
            f"{dict(total.statuses)}: {service_cpu:.1f} s of processor, clients {client_cpu:.1f} s; "
            f"bare {bare_photos:.0f}: {bare_cpu:.1f} s; {memory[-1]:.0f} MB",
            file=sys.stderr,
        )
    burst = ask(port, path, photos, BURST_CLIENTS, BURST_SECONDS)
    ratios = [rate / bare_rate for rate, bare_rate in zip(rates, bare_rates, strict=True)]
    own, others, plain = (
        1000 * seconds / count
        for seconds, count in (
            (service_cpu, total.statuses[200]),
            (client_cpu, total.statuses[200]),
            (bare_cpu, bare_photos),
        )
    )
    cuts = statistics.quantiles(total.seconds, n=100)
    print(
        f"{parsed.clients} clients, {parsed.workers} workers, {len(rates) * WINDOW_SECONDS:.0f} s of service"
    )
    print(f"answers by status: {dict(total.statuses)}; other faults: {total.faults[:3] or 'none'}")
    print(f"photos/s: service {statistics.mean(rates):.1f}, bare engine {statistics.mean(bare_rates):.1f}")
    print(
        f"ratio: {sum(rates) / sum(bare_rates):.2f} in all, median of windows {statistics.median(ratios):.2f}"
    )
    print(
        f"processor time a photo: service {own:.1f} ms, clients {others:.1f} ms, bare engine {plain:.1f} ms; "
        f"ratio {plain / own:.2f}, with the clients {plain / (own + others):.2f}"
    )
    print(f"latency: p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms")
    print(f"memory after each window: {', '.join(f'{value:.0f}' for value in memory)} MB")
    print(
        f"{BURST_CLIENTS} clients for {BURST_SECONDS:.0f} s: {dict(burst.statuses)}; "
        f"other faults: {burst.faults[:3] or 'none'}"
    )


class BareEngine:
    """What the service's workers do, without the service."""

    def __init__(self, path: Path, workers: int) -> None:
        self.detector = Detector.load(path)
        self.workers = workers
        self.num_photos = 0
        """Of the last run."""
        self.pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))

    def run(self, photos: list[bytes], seconds: float) -> float:
        """Photos per second."""
        end = time.perf_counter() + seconds
        start = time.perf_counter()
        counts = list(self.pool.map(lambda worker: self._work(photos, worker, end), range(self.workers)))
        self.num_photos = sum(counts)
        return self.num_photos / (time.perf_counter() - start)

    def _work(self, photos: list[bytes], number: int, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            photo = PhotoBytes("photo", photos[(number + done * self.workers) % len(photos)])
            self.detector.detect(read_reduced(photo, self.detector.enough_hw(read_size_hw(photo)))).to_dict()
            done += 1
        return done


def ask(port: int, path: str, photos: list[bytes], clients: int, seconds: float) -> Tally:
    """Clients that each send the next photo once they have the answer to the last."""
    end = time.perf_counter() + seconds
    tallies = [Tally() for _ in range(clients)]
    threads = [
        threading.Thread(target=be_client, args=(port, path, photos, number, end, tally))
        for number, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Tally()
    for tally in tallies:
        total.statuses += tally.statuses
        total.seconds += tally.seconds
        total.faults += tally.faults
    return total


def be_client(port: int, path: str, photos: list[bytes], number: int, end: float, tally: Tally) -> None:
    """One client on one connection; one that is told 429 waits a moment, as it is asked to."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while (start := time.perf_counter()) < end:
        number += 1
        try:
            connection.request("POST", path, photos[number % len(photos)], {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as fault:
            tally.faults.append(repr(fault))
            connection.close()
            continue
        tally.statuses[response.status] += 1
        if response.status == 200:
            tally.seconds.append(time.perf_counter() - start)
        elif response.status == 429:
            time.sleep(min(float(response.headers["Retry-After"]), max(0.0, end - time.perf_counter())))
    connection.close()


def processor_seconds(pid: int) -> float:
    """Processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
