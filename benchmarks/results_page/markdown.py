"""Tables and numbers in Markdown."""

from collections.abc import Iterable, Sequence

from benchmarks.results_page.reading import Interval


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def paragraphs(*parts: str) -> str:
    """Return parts with empty lines between them; empty parts are left out."""
    return "\n\n".join(part for part in parts if part)


def percent(share: float) -> str:
    """Return a share of one in percent."""
    return f"{100 * share:.1f} %"


def points(difference: Interval) -> str:
    """Return a difference of shares and its interval in percentage points."""
    return number(difference.in_percent(), digits=1)


def shares(interval: Interval) -> str:
    """Return a share and its interval in percent."""
    return points(interval).replace(" (", " % (", 1) if interval.low is not None else percent(interval.mean)


def number(interval: Interval, *, digits: int) -> str:
    """Return a mean and its interval."""
    ends = ""
    if interval.low is not None and interval.high is not None:
        ends = f" ({_plain(interval.low, digits)} to {_plain(interval.high, digits)})"
    return f"{_plain(interval.mean, digits)}{ends}"


def words(names: Iterable[str]) -> str:
    """Return names in a row."""
    return ", ".join(names) or "none"


def _plain(value: float, digits: int) -> str:
    """Return a number with so many decimals; what rounds to nothing has no sign."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text
