"""Lets the tests import the benchmarks as scripts do one another."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
