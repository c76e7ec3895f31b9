"""Judges the stand-in for Azure Data Explorer with the official Python clients, unmodified.

Usage: judge.py http://127.0.0.1:PORT

Creates a database and a table, ingests through the queue in several formats, waits for the
reports of success and failure, queries with typed results, and expects errors where the service
gives them. Exits with 0 and "all checks hold", or with what does not hold.
"""

import io
import json
import os
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from azure.kusto.data import KustoClient, KustoConnectionStringBuilder
from azure.kusto.data.data_format import DataFormat
from azure.kusto.data.exceptions import KustoServiceError
from azure.kusto.ingest import ColumnMapping, IngestionProperties, QueuedIngestClient
from azure.kusto.ingest.ingestion_properties import ReportLevel
from azure.kusto.ingest.status import KustoIngestStatusQueues

DATABASE = "judged"
TABLE = "Readings"
SCHEMA = (
    "(at:datetime, device:string, value:real, count:long, took:timespan, price:decimal, "
    "on:bool, more:dynamic)"
)


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


def expect_error(what, part, run):
    try:
        run()
    except KustoServiceError as error:
        if part not in str(error):
            sys.exit(f"{what}: {error} does not contain {part!r}")
        return
    sys.exit(f"{what}: no error")


def wait_for(what, poll, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = poll()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"{what}: nothing after {seconds} s")


def properties(**more):
    return IngestionProperties(
        database=DATABASE,
        table=TABLE,
        report_level=ReportLevel.FailuresAndSuccesses,
        **more,
    )


def ingest(client):
    """Four blobs: CSV as stream, CSV file, MultiJSON with a mapping, JSON by the names of keys."""
    csv = (
        '2024-05-01T10:00:00Z,alpha,1.5,10,00:00:01.5,12.50,true,"{""k"":[1,2]}"\n'
        "2024-05-01T10:00:30Z,beta,2.5,20,1.00:00:00,0.01,false,\n"
    )
    client.ingest_from_stream(
        io.BytesIO(csv.encode()),
        ingestion_properties=properties(data_format=DataFormat.CSV, ingest_by_tags=["csv-1"]),
    )
    with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False) as file:
        file.write("2024-05-01T10:01:10Z,gamma,,30,,,,\n")
    try:
        client.ingest_from_file(
            file.name, ingestion_properties=properties(data_format=DataFormat.CSV)
        )
    finally:
        os.unlink(file.name)
    mapping = [
        ColumnMapping("at", "datetime", path="$.time"),
        ColumnMapping("device", "string", path="$.who.name"),
        ColumnMapping("value", "real", path="$['a value']"),
        ColumnMapping("count", "long", const_value="7"),
        ColumnMapping("more", "dynamic", path="$"),
    ]
    rows = [
        {"time": "2024-05-01T10:02:00Z", "who": {"name": "delta"}, "a value": 4.0},
        {"time": "2024-05-01T10:02:01.1234567Z", "who": {"name": "delta"}, "a value": -1},
    ]
    client.ingest_from_stream(
        io.BytesIO("\n".join(json.dumps(row, indent=1) for row in rows).encode()),
        ingestion_properties=properties(
            data_format=DataFormat.MULTIJSON, column_mappings=mapping
        ),
    )
    client.ingest_from_stream(
        io.BytesIO(b'{"device":"epsilon","count":5}\n{"device":"epsilon","count":6}\n'),
        ingestion_properties=properties(data_format=DataFormat.JSON),
    )


def reports(client):
    """Success and failure are told in the queues."""
    queues = KustoIngestStatusQueues(client)
    successes = []

    def four():
        successes.extend(queues.success.pop(10))
        return len(successes) >= 4

    wait_for("reports of success", four)
    expect("database of a report", {s.Database for s in successes}, {DATABASE})
    again = properties(
        data_format=DataFormat.CSV, ingest_by_tags=["csv-1"], ingest_if_not_exists=["csv-1"]
    )
    client.ingest_from_stream(io.BytesIO(b"2024-05-01T10:00:00Z,x,,,,,,\n"), again)
    client.ingest_from_stream(
        io.BytesIO(b"{broken"), properties(data_format=DataFormat.MULTIJSON)
    )
    failures = []

    def two():
        failures.extend(queues.failure.pop(10))
        return len(failures) >= 2

    wait_for("reports of failure", two)
    expect(
        "error codes",
        sorted(f.ErrorCode for f in failures),
        ["BadRequest_InvalidBlob", "Skipped_IngestByTagAlreadyExists"],
    )
    expect("queue of failures", queues.failure.is_empty(), True)


def query(client):
    def rows(text):
        return [row.to_list() for row in client.execute(DATABASE, text).primary_results[0]]

    expect("count", rows(f"{TABLE} | count"), [[7]])
    at = datetime(2024, 5, 1, 10, 0, 0, tzinfo=timezone.utc)
    expect(
        "typed values",
        rows(f"{TABLE} | where device == 'alpha'"),
        [[at, "alpha", 1.5, 10, timedelta(seconds=1.5), Decimal("12.50"), True, {"k": [1, 2]}]],
    )
    expect(
        "nulls and a long span",
        rows(f"{TABLE} | where device in ('beta', 'gamma') | order by device asc"
             " | project value, took, price, on"),
        [[2.5, timedelta(days=1), Decimal("0.01"), False], [None, None, None, None]],
    )
    expect(
        "mapping",
        rows(f"{TABLE} | where device == 'delta' | order by at asc | project value, count,"
             " name = tostring(more.who.name)"),
        [[4.0, 7, "delta"], [-1.0, 7, "delta"]],
    )
    expect(
        "summarize",
        rows(f"{TABLE} | where isnotnull(at) | summarize n = count(), total = sum(count),"
             " mean = avg(value), devices = dcount(device) by bin(at, 1m) | order by at asc"),
        [
            [at, 2, 30, 2.0, 2],
            [at + timedelta(minutes=1), 1, 30, None, 1],
            [at + timedelta(minutes=2), 2, 14, 1.5, 1],
        ],
    )
    expect("take", len(rows(f"{TABLE} | take 3")), 3)
    expect("top", rows(f"{TABLE} | top 1 by count desc | project device"), [["gamma"]])
    expect(
        "tags",
        rows(f"{TABLE} | where extent_tags() has 'ingest-by:csv-1' | count"),
        [[2]],
    )
    result = client.execute(DATABASE, f"{TABLE} | project device, value | take 1")
    kinds = [(c.column_name, c.column_type) for c in result.primary_results[0].columns]
    expect("columns", kinds, [("device", "string"), ("value", "real")])


def errors(client):
    def ask(text, database=DATABASE):
        return lambda: client.execute(database, text)

    expect_error("unknown column", "SEM0100", ask(f"{TABLE} | where nope == 1"))
    expect_error("syntax", "SYN0002", ask(f"{TABLE} | where"))
    expect_error("unknown table", "Nowhere", ask("Nowhere | count"))
    expect_error("unknown database", "elsewhere", ask(f"{TABLE} | count", "elsewhere"))
    expect_error("unknown command", "not known", ask(".dance"))
    try:
        client.execute(DATABASE, f"{TABLE} | where nope == 1")
    except KustoServiceError as error:
        expect("permanence", error.http_response.json()["error"]["@permanent"], True)


def main():
    url = sys.argv[1]
    connection = KustoConnectionStringBuilder.with_no_authentication(url)
    with KustoClient(connection) as client, QueuedIngestClient(connection) as queued:
        client.execute_mgmt("NetDefaultDB", f".create database {DATABASE} ifnotexists")
        client.execute_mgmt(DATABASE, f".create table {TABLE} {SCHEMA}")
        schema = client.execute_mgmt(DATABASE, f".show table {TABLE} cslschema")
        expect("schema", schema.primary_results[0][0]["Schema"][:21], "at:datetime,device:st")
        ingest(queued)
        reports(queued)
        query(client)
        errors(client)
    print("all checks hold")


if __name__ == "__main__":
    main()
