"""Hourly figures of river gauge readings by DuckDB, as the example river-gauges defines them.

Usage: hourly.py READINGS.ndjson

Prints one JSON object a line: site, param, hour (milliseconds since the Unix epoch), readings, mean,
least, greatest. It reads the same file as the job and shares nothing else with it.
"""

import json
import sys

import duckdb

QUERY = """
with readings as (
    select site, param, cast(value as double) as value,
           epoch_ms(cast("time" as timestamptz)) as ms
    from read_json(?, format = 'newline_delimited', columns = {
        site: 'VARCHAR', param: 'VARCHAR', "time": 'VARCHAR', value: 'VARCHAR',
        qualifiers: 'VARCHAR[]', noData: 'DOUBLE' })
    where cast(value as double) <> noData and not list_contains(qualifiers, 'Ice')
)
select site, param, ms - ms % 3600000 as hour, count(*), avg(value), min(value), max(value)
from readings group by all order by all
"""
NAMES = ("site", "param", "hour", "readings", "mean", "least", "greatest")

for row in duckdb.execute(QUERY, [sys.argv[1]]).fetchall():
    print(json.dumps(dict(zip(NAMES, row))))
