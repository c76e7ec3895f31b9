"""The same events as other text: variant.py NAME INPUT OUTPUT.

shuffled   fields in four orders that change from event to event, with three more that no one asks for
million    a million devices instead of ten thousand
wide       events of about 500 bytes in 20 fields
"""

import sys

import duckdb

FIELDS = {
    "device_id": """'"device_id":"' || device_id || '"'""",
    "ts": """'"ts":' || ts""",
    "seq": """'"seq":' || seq""",
    "temperature_c": """'"temperature_c":' || temperature_c""",
    "speed_kmh": """'"speed_kmh":' || speed_kmh""",
    "status": """'"status":"' || status || '"'""",
}
MORE = ["""'"firmware":"4.18.2"'""", """'"rssi":-' || (40 + seq % 50)""", """'"tags":["fleet","north"]'"""]
PADDING = [f"""'"sensor_{n:02}":"reading-{n:02}-' || (seq * {n + 7} % 100000) || '"'""" for n in range(11)]


def line(fields: list[str]) -> str:
    return "'{' || " + " || ',' || ".join(fields) + " || '}'"


def orders(fields: list[str]) -> str:
    quarter = len(fields) // 4
    cases = (f"WHEN {n} THEN {line(fields[n * quarter:] + fields[:n * quarter])}" for n in range(1, 4))
    return f"CASE (ts + seq) % 4 {' '.join(cases)} ELSE {line(fields[::-1])} END"


def query(name: str) -> str:
    plain = list(FIELDS.values())
    if name == "shuffled":
        return orders(plain + MORE)
    if name == "million":
        other = """'"device_id":"dev-' || lpad(CAST(hash(device_id, ts, seq) % 1000000 AS VARCHAR), 6, '0') || '"'"""
        return line([other] + plain[1:])
    return line(plain[:2] + PADDING[:4] + plain[2:5] + PADDING[4:] + MORE + plain[5:])


def main() -> None:
    name, source, output = sys.argv[1:]
    if name not in ("shuffled", "million", "wide"):
        sys.exit(__doc__)
    columns = """{device_id: 'VARCHAR', ts: 'BIGINT', seq: 'BIGINT', temperature_c: 'VARCHAR',
                  speed_kmh: 'VARCHAR', status: 'VARCHAR'}"""
    duckdb.connect().execute(
        f"""COPY (SELECT {query(name)} FROM read_json('{source}', format = 'newline_delimited', columns = {columns}))
            TO '{output}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')"""
    )


main()
