"""The query of job.yaml in DuckDB: duckdb_query.py INPUT OUTPUT THREADS.

Prints the seconds that the query took; the process takes longer, as it has to start.
"""

import sys
import time

import duckdb

QUERY = """
COPY (
    SELECT make_timestamp_ms(start) AS window_start, make_timestamp_ms(start + 10000) AS window_end,
           device_id, count(*) AS reports, avg(speed_kmh) AS mean,
           min(speed_kmh) AS slowest, max(speed_kmh) AS fastest
    FROM (SELECT ts - ts % 10000 AS start, device_id, speed_kmh
          FROM read_json('{input}', format = 'newline_delimited',
                         columns = {{device_id: 'VARCHAR', ts: 'BIGINT', speed_kmh: 'DOUBLE'}}))
    GROUP BY start, device_id
) TO '{output}' (FORMAT json)
"""


def main() -> None:
    source, output, threads = sys.argv[1:]
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}")
    connection.execute("SET preserve_insertion_order = false")
    start = time.monotonic()
    connection.execute(QUERY.format(input=source, output=output))
    print(f"{time.monotonic() - start:.4f}")


main()
