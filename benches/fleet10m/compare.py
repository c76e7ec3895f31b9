"""Whether an engine's files say what DuckDB's says: compare.py FOLDER FILE.

Counts, minima and maxima must be equal; averages may differ by 1e-12 of their value, as DuckDB
sums floats in an order of its own and Thalweg compensates what rounding loses. Exits with 1 and
says what differs.
"""

import sys

import duckdb

QUERY = """
WITH ours AS (SELECT * FROM read_json('{folder}/part-*.jsonl', format = 'newline_delimited', columns = {columns})),
     theirs AS (SELECT * FROM read_json('{file}', format = 'newline_delimited', columns = {columns}))
SELECT count(*), count(ours.device_id), count(theirs.device_id),
       count(DISTINCT (coalesce(ours.window_start, theirs.window_start), coalesce(ours.device_id, theirs.device_id))),
       count(*) FILTER (WHERE NOT coalesce(
           ours.reports = theirs.reports AND ours.window_end = theirs.window_end
           AND ours.slowest IS NOT DISTINCT FROM theirs.slowest
           AND ours.fastest IS NOT DISTINCT FROM theirs.fastest
           AND (ours.mean IS NOT DISTINCT FROM theirs.mean
                OR abs(ours.mean - theirs.mean) <= 1e-12 * abs(theirs.mean)), false)),
       coalesce(sum(ours.reports), 0)
FROM ours FULL JOIN theirs USING (window_start, device_id)
"""
COLUMNS = """{window_start: 'TIMESTAMP', window_end: 'TIMESTAMP', device_id: 'VARCHAR', reports: 'BIGINT',
              mean: 'DOUBLE', slowest: 'DOUBLE', fastest: 'DOUBLE'}"""


def main() -> None:
    folder, file = sys.argv[1:]
    query = QUERY.format(folder=folder, file=file, columns=COLUMNS)
    rows, ours, theirs, keys, different, reports = duckdb.connect().execute(query).fetchone()
    if different or not rows == ours == theirs == keys:
        print(f"{rows} results, {keys} different keys, {ours} of the engine's, {theirs} of DuckDB's, {different} differ")
        sys.exit(1)
    print(f"{rows} results over {reports} events, all equal")


main()
