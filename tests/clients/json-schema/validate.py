"""Validates job definitions against the JSON Schema that `thalweg schema` prints.

usage: validate.py SCHEMA GOOD... [--bad BAD...]

Every GOOD definition must be valid, every BAD one must not. YAML is read as YAML 1.2, as Thalweg
reads it: `on` and `off` are words.
"""

import sys

from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = YAML(typ="safe", pure=True).load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    expected, failed, checked = True, 0, 0
    for path in sys.argv[2:]:
        if path == "--bad":
            expected = False
            continue
        checked += 1
        try:
            with open(path, encoding="utf-8") as file:
                document = YAML(typ="safe", pure=True).load(file)
        except (YAMLError, RecursionError):
            # What no YAML reader takes is as wrong as can be.
            if not expected:
                continue
            raise
        errors = list(validator.iter_errors(document))
        if bool(errors) == expected:
            failed += 1
            print(f"{path}: {'invalid' if expected else 'valid, and should not be'}")
            for error in errors:
                print(f"  {'/'.join(map(str, error.path))}: {error.message}")
    print(f"{checked} definitions checked, {failed} not as expected")
    return 1 if failed else 0


sys.exit(main())
