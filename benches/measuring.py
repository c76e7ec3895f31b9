"""What the runs of benchmarks share: processes measured from outside, input, comparison, tables."""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def measured(command: list[str], environment: dict[str, str]) -> dict:
    """Runs a process to its end; seconds, CPU seconds, MiB, standard output."""
    reading, writing = os.pipe()
    start = time.monotonic()
    process = os.posix_spawnp(
        command[0],
        command,
        {**os.environ, **environment},
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)],
    )
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status, usage = os.wait4(process, 0)
    wall = time.monotonic() - start
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} has failed")
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "system": usage.ru_stime,
        "memory": usage.ru_maxrss / 1024,
        "said": said,
    }


def generated(thalweg: str, folder: pathlib.Path, events: int) -> pathlib.Path:
    """The input, made once."""
    path = folder / f"fleet-{events}.jsonl"
    if not path.exists():
        print(f"generating {events} events …", file=sys.stderr)
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as out:
            subprocess.run([thalweg, "generate", "fleet", f"--events={events}"], stdout=out, check=True)
        partial.rename(path)
    return path


def fresh(folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # What the runs before wrote must not be written back during this one.
    os.sync()


def compared(ours: pathlib.Path, theirs: pathlib.Path) -> None:
    """Ends the program if a folder's results are not those of DuckDB."""
    compare = [sys.executable, str(HERE / "fleet10m/compare.py"), str(ours), str(theirs)]
    if subprocess.run(compare).returncode != 0:
        sys.exit(1)


def table(runs: dict[str, list[dict]], events: int) -> None:
    print("| engine | wall s | of it query s | million events/s | CPU s | of it kernel s | resident MiB |")
    print("|---|---|---|---|---|---|---|")
    for name, all_of_it in runs.items():
        median = lambda key: statistics.median(run[key] for run in all_of_it)  # noqa: E731
        wall, best = median("wall"), min(run["wall"] for run in all_of_it)
        query = f"{median('query'):.3f}" if "query" in all_of_it[0] else ""
        print(
            f"| {name} | {wall:.3f} (best {best:.3f}) | {query} | {events / wall / 1e6:.2f} "
            f"| {median('cpu'):.2f} | {median('system'):.2f} | {median('memory'):.0f} |"
        )
