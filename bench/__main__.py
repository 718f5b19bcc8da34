"""`make bench`: everything, as one JSON object on standard output; what it does, on standard error.

A figure that has to reach something has `target` and `met` beside it, and `missed` names those that do not. The
targets are for a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import disk
import governed
import stages
from targets import missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls, to see that it runs")
    parser.add_argument("--memory-calls", type=int, default=100_000, help="calls before memory is looked at")
    options = parser.parse_args()
    scale, memory = (0.1, 1000) if options.quick else (1.0, options.memory_calls)
    found: dict[str, Any] = {"machine": governed.machine()}
    for name, part in (
        ("disk", disk.measure),
        ("decisions", stages.decisions),
        ("stages", stages.stages),
        ("cli_start", governed.cli_start),
        ("canned_upstream", lambda: governed.canned(scale, memory)),
        ("sdk_upstream", lambda: governed.against_fastmcp(scale)),
    ):
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        found[name] = part()
    found["missed"] = list(missed(found))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
