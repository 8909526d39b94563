"""The real domains, where `make domains` has fetched their packages: the same again, and what docs/domains.md says."""

from pathlib import Path

import pytest

from benchmarks.domains.domain import CARD, DomainCard, hash_of
from benchmarks.domains.packages import FetchedPackages, UnavailableSourceError
from benchmarks.domains.registry import DOMAINS

ROOT = Path(__file__).parents[3]
BUILT = ROOT / "build" / "domains"


@pytest.mark.slow
@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_made_again_is_the_one_that_the_documentation_states(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_path = BUILT / name / CARD
    if not card_path.exists():
        pytest.skip(f"{card_path} is absent: run `make domains`")
    monkeypatch.setenv("PATH", "")  # a test fetches nothing
    try:
        domain = DOMAINS[name](FetchedPackages(BUILT / "packages"))
    except UnavailableSourceError as error:
        pytest.skip(str(error))
    card = DomainCard.from_stored(card_path.read_bytes(), str(card_path))
    assert hash_of(domain.arrays) == card.sha256
    documentation = (ROOT / "docs" / "domains.md").read_text()
    # Another Debian offers other versions of its packages.
    if all(f"{source.package} {source.version}" in documentation for source in card.sources):
        assert f"`{card.sha256[:12]}`" in documentation
