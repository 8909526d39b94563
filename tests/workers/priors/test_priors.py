import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.errors import UnknownNameError
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet
from workers.bayes.distributions import Batch
from workers.bayes.relaxation import one_hot_choices
from workers.contracts.errors import InvalidPriorError
from workers.contracts.priors import PriorCard
from workers.priors.model import HEAD_NAMES, body_shapes, fresh_prior, mode_of, supernet_likelihood
from workers.priors.registry import DEFAULTS, PriorRegistry, bundled_cards, bundled_default, bundled_folder
from workers.priors.tensors import load_prior, save_prior
from workers.store.folder import FolderStore

MACRO = Macro(num_channels=4, num_cells=1, num_classes=3, image_size=8)
SPACE = SPACES["nas_bench_201"]


@pytest.fixture
def prior_path(tmp_path: Path) -> Path:
    prior = fresh_prior("nas_bench_201", MACRO, torch.Generator().manual_seed(0), weight_scale=0.1)
    save_prior(prior, tmp_path / "prior.safetensors")
    return tmp_path / "prior.safetensors"


def test_a_saved_prior_is_read_back_within_half_precision(prior_path: Path) -> None:
    fresh = fresh_prior("nas_bench_201", MACRO, torch.Generator().manual_seed(0), weight_scale=0.1)
    read = load_prior(prior_path, SPACE, body_shapes("nas_bench_201", MACRO))
    assert torch.equal(read.arch_logits, fresh.arch_logits)
    for name, value in fresh.loc.items():
        assert torch.allclose(read.loc[name], value, rtol=2**-10, atol=1e-7)


@pytest.mark.parametrize("damage", ["missing", "misshapen", "surplus", "not finite"])
def test_a_prior_that_does_not_fit_is_refused_by_the_name_of_its_tensor(prior_path: Path, damage: str) -> None:
    arrays = load_file(prior_path)
    name = next(key for key in arrays if key.startswith("loc/") and arrays[key].ndim == 4)
    match damage:
        case "missing":
            del arrays[name]
        case "misshapen":
            arrays[name] = arrays[name][:1].clone()
        case "surplus":
            name = "loc/body.surprise"
            arrays[name] = torch.zeros(2)
        case "not finite":
            arrays[name] = torch.full_like(arrays[name], torch.inf)
    save_file(arrays, prior_path)
    with pytest.raises(InvalidPriorError) as caught:
        load_prior(prior_path, SPACE, body_shapes("nas_bench_201", MACRO))
    assert name in str(caught.value)


def test_a_file_that_is_no_prior_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"rubbish")
    with pytest.raises(InvalidPriorError, match="cannot be read"):
        load_prior(tmp_path / "p", SPACE, {})


def test_the_likelihood_of_one_hot_weights_is_the_supernets_own() -> None:
    supernet = build_supernet("nas_bench_201", MACRO, generator=torch.Generator().manual_seed(1))
    batch = Batch(images=torch.randn(6, 3, 8, 8), labels=torch.tensor([0, 1, 2, 0, 1, 2]))
    choices = torch.tensor([[3, 1, 2, 0, 4, 3]])
    (one_hot,) = one_hot_choices(choices, torch.zeros(6, 5))
    losses = supernet_likelihood(supernet)(dict(supernet.named_parameters()), one_hot, batch)
    expected = torch.nn.functional.cross_entropy(supernet(batch.images, one_hot), batch.labels, reduction="none")
    assert torch.allclose(losses, expected, atol=1e-5)


def test_unknown_priors_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    registry = PriorRegistry(FolderStore(tmp_path, create=True))
    for name in ("nope", "../../etc/passwd", ""):
        with pytest.raises(UnknownNameError, match="nas_bench_201-v4"):
            registry.card(name)


def test_strange_keys_and_unreadable_cards_do_not_break_the_answer(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, create=True)
    for key in ("priors/a/b/card.json", "priors/_x/card.json", "priors/bad/card.json"):
        store.put_bytes(key, b"{}")
    registry = PriorRegistry(store)
    with pytest.raises(UnknownNameError, match=f"one of {', '.join(bundled_cards())}, bad, or 'none'"):
        registry.card("nope")
    with pytest.raises(InvalidPriorError, match="bad"):
        registry.card("bad")


def test_tensors_that_are_not_those_of_the_card_are_refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "objects", create=True)
    card = bundled_cards()["nas_bench_201-v4"].model_copy(update={"id": "mine"})
    store.put_bytes("priors/mine/card.json", card.model_dump_json().encode())
    store.put_bytes("priors/mine/prior.safetensors", b"other bytes")
    with pytest.raises(InvalidPriorError, match="not those of its card"):
        PriorRegistry(store).fetch("mine", tmp_path)


@pytest.mark.parametrize("space", sorted(SPACES))
def test_the_bundled_default_of_a_space_is_a_bundled_prior_of_it(space: str) -> None:
    default = bundled_default(space)
    assert default is None or bundled_cards()[default].search_space == space
    assert (default is None) == (space not in DEFAULTS)


@pytest.mark.parametrize("prior_id", sorted(bundled_cards()))
def test_a_bundled_prior_is_what_its_card_says(prior_id: str) -> None:
    card: PriorCard = bundled_cards()[prior_id]
    path = bundled_folder() / prior_id / "prior.safetensors"
    data = path.read_bytes()
    assert len(data) == card.num_bytes < 10_000_000
    assert hashlib.sha256(data).hexdigest() == card.sha256
    assert card.id == prior_id
    space = SPACES[card.search_space]
    macro = Macro(
        skeleton=card.macro.skeleton,
        num_channels=card.macro.num_channels,
        num_cells=card.macro.num_cells,
        num_classes=2,
        image_size=32,
    )
    prior = load_prior(path, space, body_shapes(card.search_space, macro))
    assert space.format(mode_of(prior, space)) == card.mode
    assert not set(prior.loc) & set(HEAD_NAMES)
