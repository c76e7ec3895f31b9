"""fleet10m beside DuckDB and Flink: file of JSON, ten-second windows of ten thousand devices, file of JSON.

Every engine runs once a round, in turns, as a process of its own; wall clock, CPU and the highest
resident memory are the kernel's (wait4). The table has the median of each. After the first round
the results are compared row by row.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measuring import ROOT, compared, fresh, generated, measured, table  # noqa: E402


def varied(python: str, source: pathlib.Path, variant: str) -> pathlib.Path:
    """The same events as other text, made once."""
    path = source.with_stem(f"{source.stem}-{variant}")
    if not path.exists():
        print(f"writing {path.name} …", file=sys.stderr)
        partial = path.with_suffix(".partial")
        subprocess.run([python, str(HERE / "variant.py"), variant, str(source), str(partial)], check=True)
        partial.rename(path)
    return path


def thalweg_run(thalweg: str, source: pathlib.Path, run: pathlib.Path, workers: int) -> dict:
    fresh(run)
    command = [thalweg, "run", str(HERE / "job.yaml"), f"--workers={workers}"]
    return measured(command, {"FLEET_INPUT": str(source), "FLEET_RUN": str(run)})


def duckdb_run(python: str, source: pathlib.Path, run: pathlib.Path, threads: int) -> dict:
    fresh(run)
    output = run / "result.jsonl"
    usage = measured([python, str(HERE / "duckdb_query.py"), str(source), str(output), str(threads)], {})
    return {**usage, "query": float(usage["said"])}


def flink_built() -> list[str]:
    """The command that runs the job of flink/, but for its arguments; Maven fetches what it needs."""
    build = ROOT / "target/bench/flink-build"
    classpath = build / "classpath"
    goals = ["compile", "dependency:build-classpath", f"-Dmdep.outputFile={classpath}"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(HERE / "flink/pom.xml"), *goals], check=True, stdout=sys.stderr)
    # Flink reaches into these packages; Java 17 and later must be told.
    opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util")]
    return ["java", *opens, "-cp", f"{build / 'classes'}:{classpath.read_text()}", "Fleet10m"]


def flink_run(command: list[str], source: pathlib.Path, run: pathlib.Path, parallelism: int) -> dict:
    fresh(run)
    return measured([*command, str(source), str(run), str(parallelism)], {})


def startup(thalweg: str, folder: pathlib.Path, rounds: int) -> None:
    """How long `validate` takes, and `run` to the first line of output."""
    environment = {**os.environ, "FLEET_RUN": str(folder / "startup")}
    job = str(HERE / "startup.yaml")
    validate, first = [], []
    for _ in range(rounds):
        fresh(folder / "startup")
        start = time.monotonic()
        subprocess.run([thalweg, "validate", job], env=environment, check=True, stdout=subprocess.DEVNULL)
        validate.append(time.monotonic() - start)
        start = time.monotonic()
        process = subprocess.Popen(
            [thalweg, "run", job], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        process.stdout.readline()
        first.append(time.monotonic() - start)
        process.stdout.read()
        if process.wait() != 0:
            sys.exit("the start-up job has failed")
    median = lambda times: f"{statistics.median(times) * 1000:.0f} ms"  # noqa: E731
    print(f"\n`thalweg validate`: {median(validate)}; `thalweg run` to the first result: {median(first)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--thalweg", default=str(ROOT / "target/release/thalweg"))
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench")
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 1])
    parser.add_argument("--variant", choices=["shuffled", "million", "wide"], help="the events as other text (variant.py)")
    parser.add_argument("--flink", action="store_true", help="the same job in Flink, too (needs Java and Maven)")
    parser.add_argument("--also", nargs="*", default=[], help="other binaries to run beside, on 2 workers")
    arguments = parser.parse_args()
    folder, thalweg = arguments.folder, arguments.thalweg
    folder.mkdir(parents=True, exist_ok=True)
    source = generated(thalweg, folder, arguments.events)
    if arguments.variant:
        source = varied(sys.executable, source, arguments.variant)
    flink = flink_built() if arguments.flink else None
    runs: dict[str, list[dict]] = {}
    for turn in range(arguments.rounds):
        theirs = folder / "duckdb"
        name = "DuckDB, 2 threads"
        runs.setdefault(name, []).append(duckdb_run(sys.executable, source, theirs, 2))
        for workers in arguments.workers:
            ours = folder / f"thalweg-{workers}"
            name = f"Thalweg, {workers} worker{'s' * (workers > 1)}"
            runs.setdefault(name, []).append(thalweg_run(thalweg, source, ours, workers))
            if turn == 0:
                compared(ours / "per-device", theirs / "result.jsonl")
        if flink:
            java = folder / "flink"
            runs.setdefault("Flink 2.3.0, parallelism 2", []).append(flink_run(flink, source, java, 2))
            if turn == 0:
                compared(java / "per-device", theirs / "result.jsonl")
        for other in arguments.also:
            runs.setdefault(other, []).append(thalweg_run(other, source, folder / "other", 2))
    table(runs, arguments.events)
    startup(thalweg, folder, arguments.rounds)


main()
