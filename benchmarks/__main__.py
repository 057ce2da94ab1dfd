"""Run every benchmark, each in its own process, and print the table."""

from __future__ import annotations

import argparse
import sys

from benchmarks import harness

parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
parser.add_argument("names", nargs="*", help=f"which ones [default: {', '.join(harness.names())}]")
parser.add_argument("--json", action="store_true", help="print a JSON list")
args = parser.parse_args()
unknown = [name for name in args.names if name not in harness.names()]
if unknown:
    parser.error(f"unknown benchmark {unknown[0]!r}; known: {', '.join(harness.names())}")
sys.exit(harness.run_all(args.names or harness.names(), args.json))
