"""What holds for every domain: the same twice, read by the product, its parts apart and its marks its own classes."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.domains.domain import CARD, DomainCard, split_name, write
from benchmarks.domains.packages import Packages
from benchmarks.domains.registry import DOMAINS
from benchmarks.domains.written import WrittenDomain, learnable
from search_spaces.errors import InvalidOptionError, UnknownNameError
from workers.tasks.class_split import ClassSplit
from workers.tasks.sources import load_source

pytestmark = pytest.mark.usefixtures("imagenet_file")
UNSEEN = {"fashion_mnist"}


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_is_the_same_files_twice(name: str, packages: Packages, tmp_path: Path) -> None:
    cards = [write(DOMAINS[name](packages), tmp_path / out) for out in ("one", "two")]

    assert cards[0] == cards[1]
    files = sorted(path.name for path in (tmp_path / "one" / name).iterdir())
    assert f"{name}.npz" in files
    for file in files:
        assert (tmp_path / "one" / name / file).read_bytes() == (tmp_path / "two" / name / file).read_bytes()


@pytest.mark.parametrize("name", DOMAINS)
def test_the_card_says_what_the_product_reads(name: str, packages: Packages, tmp_path: Path) -> None:
    card = write(DOMAINS[name](packages), tmp_path)

    assert DomainCard.model_validate_json((tmp_path / name / CARD).read_bytes()) == card
    labeled = load_source(tmp_path / name / f"{name}.npz")
    counts = Counter(labeled.labels.tolist())
    assert (card.num_images, card.total_classes) == (len(labeled), len(labeled.classes))
    assert card.num_per_class == (min(counts.values()), max(counts.values()))
    assert labeled.images.shape[1:] == (card.side, card.side, 3)
    assert card.color or (labeled.images[..., 0] == labeled.images[..., 2]).all()
    assert all(source.license and source.version for source in card.sources)
    assert (card.num_classes == {}) == (name in UNSEEN)


@pytest.mark.parametrize("name", [name for name in DOMAINS if name not in UNSEEN])
def test_parts_are_apart_and_marked_classes_go_where_they_are_not_wanted(
    name: str, packages: Packages, tmp_path: Path
) -> None:
    domain = DOMAINS[name](packages)
    write(domain, tmp_path)
    known = set(load_source(tmp_path / name / f"{name}.npz").classes)
    split = ClassSplit.read(tmp_path / name / split_name(None))

    assert {*split.meta_train, *split.meta_validation, *split.meta_test} <= known
    for mark, classes in domain.marks.items():
        without = ClassSplit.read(tmp_path / name / split_name(mark))
        assert set(classes) <= known
        assert set(without.meta_train) == set(split.meta_train) - set(classes)
        assert set(without.meta_validation) == set(split.meta_validation) - set(classes)
        assert without.meta_test == split.meta_test


def test_domains_to_learn_from_are_read_back_whole_or_without_a_mark(packages: Packages, tmp_path: Path) -> None:
    for name in ("emoji", "scripts", "fashion_mnist"):
        write(DOMAINS[name](packages), tmp_path)

    found = learnable(tmp_path)
    assert [domain.card.name for domain in found] == ["emoji", "scripts"]
    assert found[0].path.exists()
    (one,) = learnable(tmp_path, ["scripts"])
    assert one == found[1]
    assert classes(learnable(tmp_path, without="cifar10")[0]) == classes(found[0]) - {"animal-bird"}
    assert learnable(tmp_path, without="cifar10")[1] == found[1]
    with pytest.raises(UnknownNameError, match="fashion_mnist"):
        learnable(tmp_path, ["fashion_mnist"])
    with pytest.raises(InvalidOptionError, match="cifar10, fashion_mnist"):
        learnable(tmp_path, without="cifar100")


def test_a_domain_half_written_is_none(packages: Packages, tmp_path: Path) -> None:
    write(DOMAINS["scripts"](packages), tmp_path)
    (tmp_path / "scripts" / CARD).unlink()

    assert learnable(tmp_path) == []


def classes(domain: WrittenDomain) -> set[str]:
    return {*domain.split.meta_train, *domain.split.meta_validation}


def test_cards_of_a_newer_format_are_not_misread(packages: Packages, tmp_path: Path) -> None:
    write(DOMAINS["scripts"](packages), tmp_path)
    card = tmp_path / "scripts" / CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "schema_version": 99}))

    with pytest.raises(Exception, match="newer ArchPrior"):
        learnable(tmp_path)
