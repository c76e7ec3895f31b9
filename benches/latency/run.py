"""How long after it is due the result of a window is out, at a fixed rate of events.

The source generates events at the rate, so from the time of the first the time of every event is
known, and of the one that completes a window (its end and `out_of_order`). A result's latency is from
then until its file, durable but for its name, has that: the file's time of change (as exact as the kernel's
ticks, 4 ms). The time of the first event is the least that follows from how many records the job's
metrics say were read until some moment: at most some milliseconds late.

The results are compared with those of the events read from a file: count by count.
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import typing
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SIZE_MS = 10_000
OUT_OF_ORDER_MS = 1_000


def expected(thalweg: str, events: int) -> tuple[dict, dict]:
    """Of each window its counts by device, and the number of the event that completes it."""
    counts: dict[int, collections.Counter] = collections.defaultdict(collections.Counter)
    complete: dict[int, int] = {}
    newest = 0
    generate = subprocess.Popen([thalweg, "generate", "fleet", f"--events={events}"], stdout=subprocess.PIPE)
    for number, line in enumerate(generate.stdout):
        event = json.loads(line)
        end = event["ts"] // SIZE_MS * SIZE_MS + SIZE_MS
        counts[end][event["device_id"]] += 1
        if event["ts"] > newest:
            newest = event["ts"]
            done = (newest - OUT_OF_ORDER_MS) // SIZE_MS * SIZE_MS
            complete.setdefault(done, number)
    if generate.wait() != 0:
        sys.exit("the generator has failed")
    return counts, complete


def watched(told: typing.BinaryIO, start: float, rate: int, firsts: list[float]) -> None:
    """Appends times at which the first event can have come, until the job says no more."""
    address = None
    for line in told:
        if found := re.search(rb"listening on http://(\S+)", line):
            address = found[1].decode()
            break
    known = b""
    while address:
        try:
            with urllib.request.urlopen(f"http://{address}/metrics") as answer:
                text = answer.read()
        except (ConnectionError, urllib.error.URLError):
            # It has ended.
            break
        seconds = time.monotonic() - start
        read = re.search(rb'records_in_total\{[^}]*step="reports"[^}]*\} (\d+)', text)
        if read and read[1] != known:
            known = read[1]
            firsts.append(seconds - int(known) / rate)
        time.sleep(0.005)
    told.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--thalweg", default=str(ROOT / "target/release/thalweg"))
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench/latency")
    arguments = parser.parse_args()
    events = arguments.rate * arguments.seconds
    counts, complete = expected(arguments.thalweg, events)
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    environment = {
        **os.environ,
        "LATENCY_RUN": str(arguments.folder),
        "LATENCY_EVENTS": str(events),
        "LATENCY_RATE": str(arguments.rate),
    }
    command = [arguments.thalweg, "run", str(HERE / "job.yaml"), f"--workers={arguments.workers}", "--listen=127.0.0.1:0"]
    start, start_of_day = time.monotonic(), time.time()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    firsts: list[float] = []
    watch = threading.Thread(target=watched, args=(process.stderr, start, arguments.rate, firsts))
    watch.start()
    if process.wait() != 0:
        sys.exit("the job has failed")
    watch.join()
    first = min(firsts)
    latencies: dict[int, list[float]] = collections.defaultdict(list)
    got: dict[int, collections.Counter] = collections.defaultdict(collections.Counter)
    for path in (arguments.folder / "out").iterdir():
        seconds = path.stat().st_ctime - start_of_day
        for line in path.read_bytes().splitlines():
            row = json.loads(line)
            end = round(datetime.datetime.fromisoformat(row["window_end"]).timestamp() * 1000)
            got[end][row["device_id"]] += row["reports"]
            # The end of the input completes the last windows.
            if end in complete:
                latencies[end].append(seconds - first - complete[end] / arguments.rate)
    if got != counts:
        sys.exit("the results differ from the events that were generated")
    every = sorted(latency * 1000 for window in latencies.values() for latency in window)
    share = lambda part: every[min(len(every) - 1, int(len(every) * part))]  # noqa: E731
    print("| events/s | results | windows | median ms | p99 ms | worst ms |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {arguments.rate} | {len(every)} | {len(latencies)} | {statistics.median(every):.0f} "
        f"| {share(0.99):.0f} | {every[-1]:.0f} |"
    )


main()
