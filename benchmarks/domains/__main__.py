"""Write the domains that priors learn from, and those that stay unseen, as packed datasets with splits and terms.

What they are made of is fetched by npm and apt-get into OUT_DIR/packages and stays there; nothing is installed. A
domain whose source cannot be had is told, and the others are written. Ends with the table of docs/domains.md.

usage: make domains, or python -m benchmarks.domains OUT_DIR [--only NAME ...]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.domains.domain import DomainCard, write
from benchmarks.domains.packages import FetchedPackages, UnavailableSourceError
from benchmarks.domains.registry import DOMAINS


def main() -> int:
    """Write what is asked for; return 1 if a source cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--only", action="append", choices=DOMAINS, metavar="NAME", help=", ".join(DOMAINS))
    options = parser.parse_args()
    packages = FetchedPackages(options.out / "packages")
    cards, missing = [], []
    for name in options.only or DOMAINS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            cards.append(write(DOMAINS[name](packages), options.out))
        except UnavailableSourceError as error:
            missing.append(name)
            print(f"{name} is not written: {error}", file=sys.stderr)
    print(table(cards))
    return 1 if missing else 0


def table(cards: Sequence[DomainCard]) -> str:
    """Return sizes and counts as a table in Markdown; classes are those of meta-train, -validation and -test."""
    lines = [
        "| domain | images | classes | train / validation / test | images a class | pixels | SHA-256 of the arrays |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in cards:
        parts = " / ".join(str(number) for number in card.num_classes.values()) or "unseen"
        fewest, most = card.num_per_class
        pixels = f"{card.side} x {card.side}, {'color' if card.color else 'gray'}"
        lines.append(
            f"| `{card.name}` | {card.num_images:,} | {card.total_classes} | {parts} "
            f"| {fewest if fewest == most else f'{fewest} to {most}'} | {pixels} | `{card.sha256[:12]}` |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
