"""Fuzz the API by its own schema: schemathesis on loopback, no answer of 500 or above, no other surprise.

    python benchmarks/fuzz_api.py [MODEL] [--schemathesis PATH] [--examples 60] [--seconds 240]

A server is started in a process of its own. schemathesis is no dependency of the package: install it where
you like (`python -m venv DIR && DIR/bin/pip install schemathesis`) and name it with --schemathesis.
It makes requests that fit the schema and requests that do not. What it finds is printed with the curl command
that shows it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import urllib.request

from children import call
from counting import count
from local_server import served

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="grammar")
    parser.add_argument("--schemathesis", default="schemathesis", help="the program")
    parser.add_argument("--examples", type=count, default=60, help="of each operation and phase")
    parser.add_argument("--seconds", type=count, default=240, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if shutil.which(options.schemathesis) is None:
        raise SystemExit(
            f"There is no program {options.schemathesis}; install schemathesis and name it with --schemathesis."
        )
    with served(options.model) as address:
        found = fuzz(options, address)
        print(requests_by_status(address))
    return found


def fuzz(options: argparse.Namespace, address: str) -> int:
    """schemathesis's exit status."""
    command = [options.schemathesis, "run", f"{address}/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--max-examples", str(options.examples), "--max-time", str(options.seconds)]
    command += [
        "--seed",
        str(options.seed),
        "--request-timeout",
        "60",
        "--continue-on-failure",
        "--workers",
        "1",
    ]
    return call(command)


def requests_by_status(address: str) -> str:
    """What the server has counted, by status."""
    counts: dict[str, int] = {}
    with urllib.request.urlopen(f"{address}/metrics") as told:
        for line in told.read().decode().splitlines():
            if line.startswith("diffuseq_requests_total{"):
                status = line.partition('status="')[2].partition('"')[0]
                counts[status] = counts.get(status, 0) + int(float(line.rsplit(" ", 1)[1]))
    return "requests by status: " + json.dumps(dict(sorted(counts.items())))


if __name__ == "__main__":
    sys.exit(main())
