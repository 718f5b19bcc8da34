"""Run a scenario: `python -m demo [--scenario NAME] [--once]`, with examples/ on the path."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

from demo import customer_operations, environment_deletion
from demo.stage import Stage, StoryFailed

SCENARIOS = {
    "customer-operations": customer_operations.SCENARIO,
    "environment-deletion": environment_deletion.SCENARIO,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run ARGS=", description=__doc__)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="customer-operations")
    parser.add_argument("--once", action="store_true", help="end after the story")
    parser.add_argument("--port", type=int, default=7600, help="the gateway's port; the next one is for watching")
    parser.add_argument("--folder", type=Path, help="where journal and databases go; default var/demo/SCENARIO")
    options = parser.parse_args()
    scenario = SCENARIOS[options.scenario]
    root = Path(__file__).resolve().parents[2]
    folder = options.folder or root / "var" / "demo" / options.scenario
    wrong: list[str] = []
    try:
        with Stage(scenario, root, folder.resolve(), options.port) as stage:
            asyncio.run(scenario.story(stage))
            stage.say_next(scenario.next_steps)
            if not options.once:
                stage.wait()
    except* StoryFailed as failed:
        # The client's task groups wrap what goes wrong inside of them.
        wrong.extend(str(error) for error in leaves(failed))
    except* KeyboardInterrupt:
        pass
    for message in wrong:
        print(f"\nThe story went wrong: {message}", file=sys.stderr)
    return 1 if wrong else 0


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())
