"""Write docs/results.md and its pictures from the files of results; a second run changes no byte.

usage: make results, or python -m benchmarks.results_page [--results FOLDER] [--docs FOLDER]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import RESULTS, ROOT
from benchmarks.results_page.page import Page, write_page
from search_spaces.errors import ArchPriorError

PAGE: Final = "results.md"
PLOTS: Final = Path("images", "results")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, and end with one line of JSON: how many of the questions stand how.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of files of results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page goes")
    options = parser.parse_args(arguments)
    try:
        page = write_page(options.results)
    except ArchPriorError as error:
        print(f"not written: {error}", file=sys.stderr)
        return 1
    put(page, options.docs)
    print(json.dumps({"page": str(options.docs / PAGE), "reached": page.counts}))
    return 0


def put(page: Page, docs: Path) -> None:
    """Write a page and its pictures into a folder; pictures that it has no more are removed."""
    plots = docs / PLOTS
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.svg"):
        if old.stem not in page.plots:
            old.unlink()
    for name, drawn in page.plots.items():
        (plots / f"{name}.svg").write_text(drawn)
    (docs / PAGE).write_text(page.text)


if __name__ == "__main__":
    sys.exit(main())
