"""The job of fleet10m from Kafka, beside what librdkafka alone reads of the same topic.

A broker of its own on the same machine, four partitions, lz4. Both run once a round, in turns; CPU time
is that of the process, without the broker's. After the first round the results are compared, row by row,
with DuckDB's from the file that was produced.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measuring import ROOT, compared, fresh, generated, measured, table  # noqa: E402

SCRIPT = ROOT / "tests/services/kafka/broker"
PARTITIONS = 4


class Broker:
    """A broker that runs as long as a `with` block."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        ports = [str(one.getsockname()[1]) for one in sockets]
        for one in sockets:
            one.close()
        started = subprocess.run([SCRIPT, "start", self.folder.name, *ports], check=True, stdout=subprocess.PIPE)
        self.pid, self.address = int(started.stdout), f"127.0.0.1:{ports[0]}"

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.folder.cleanup()

    def ask(self, *commands: dict) -> None:
        """Has Apache's clients do something."""
        lines = "".join(json.dumps({**command, "broker": self.address}) + "\n" for command in commands)
        answers = subprocess.run([SCRIPT, "tool"], input=lines, check=True, stdout=subprocess.PIPE, text=True).stdout
        failed = [answer for answer in answers.splitlines() if "error" in json.loads(answer)]
        if failed:
            sys.exit(f"the broker: {failed[0]}")


def alone(program: str, broker: Broker, events: int, consumers: int) -> dict:
    usage = measured([program, broker.address, "fleet", str(PARTITIONS), str(consumers)], {})
    messages, _, seconds = usage["said"].split()
    if int(messages) != events:
        sys.exit(f"librdkafka has read {messages} of {events} messages")
    return {**usage, "query": float(seconds)}


def thalweg_run(thalweg: str, broker: Broker, run: pathlib.Path, workers: int) -> dict:
    fresh(run)
    command = [thalweg, "run", str(HERE / "job.yaml"), f"--workers={workers}"]
    return measured(command, {"FLEET_BROKERS": broker.address, "FLEET_RUN": str(run)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--thalweg", default=str(ROOT / "target/release/thalweg"))
    parser.add_argument("--librdkafka", default=str(ROOT / "target/release/librdkafka"))
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    source = generated(arguments.thalweg, folder, arguments.events)
    theirs = folder / "duckdb"
    fresh(theirs)
    query = ROOT / "benches/fleet10m/duckdb_query.py"
    measured([sys.executable, str(query), str(source), str(theirs / "result.jsonl"), "2"], {})
    runs: dict[str, list[dict]] = {}
    with Broker() as broker:
        print(f"producing {arguments.events} events …", file=sys.stderr)
        broker.ask(
            {"create": "fleet", "partitions": PARTITIONS, "config": {}},
            {"lines": "fleet", "partitions": PARTITIONS, "file": str(source)},
        )
        for turn in range(arguments.rounds):
            for consumers in (1, 2):
                name = f"librdkafka alone, {consumers} consumer{'s' * (consumers > 1)}"
                runs.setdefault(name, []).append(alone(arguments.librdkafka, broker, arguments.events, consumers))
            ours = folder / "thalweg-kafka"
            name = "Thalweg, 2 workers"
            runs.setdefault(name, []).append(thalweg_run(arguments.thalweg, broker, ours, 2))
            if turn == 0:
                compared(ours / "per-device", theirs / "result.jsonl")
    table(runs, arguments.events)
    best = min(statistics.median(run["wall"] for run in runs[name]) for name in runs if name.startswith("lib"))
    mine = runs["Thalweg, 2 workers"]
    wall, cpu = (statistics.median(run[key] for run in mine) for key in ("wall", "cpu"))
    print(f"\n{best / wall:.2f} of what librdkafka alone reads; {cpu * 1e7 / arguments.events:.1f} CPU s per 10 million events")


main()
