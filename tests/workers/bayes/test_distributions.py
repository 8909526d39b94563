import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import MASKED_LOGIT, MetaPrior, Task, posterior_at


def test_arrays_of_a_prior_and_of_a_posterior_rebuild_them(make_prior, make_head):
    prior = make_prior(0)
    posterior = posterior_at(prior, make_head(0))
    for whole in (prior, posterior):
        arrays = whole.to_arrays()
        again = type(whole).from_arrays(arrays).to_arrays()
        assert again.keys() == arrays.keys()
        assert all(again[key] is arrays[key] for key in arrays)
    assert "loc/stem" in prior.to_arrays()
    assert "head/classifier" in posterior.to_arrays()


def test_a_posterior_begins_as_the_very_tensors_of_the_prior(make_prior, make_head):
    prior = make_prior(0)
    posterior = posterior_at(prior, make_head(0))
    assert posterior.arch_logits is prior.arch_logits
    assert all(posterior.loc[name] is prior.loc[name] for name in prior.loc)


def test_tensor_names_may_contain_slashes():
    prior = MetaPrior(torch.zeros(1, 2), {"cell/0/weight": torch.zeros(3)}, {"cell/0/weight": torch.zeros(())})
    assert MetaPrior.from_arrays(prior.to_arrays()).loc.keys() == {"cell/0/weight"}


@pytest.mark.parametrize("shape", [(2,), (3, 4, 1), (4, 4)])
def test_a_scale_that_does_not_broadcast_to_its_weights_is_refused(shape):
    with pytest.raises(InvalidOptionError, match="log_scale of w"):
        MetaPrior(torch.zeros(1, 2), {"w": torch.zeros(3, 4)}, {"w": torch.zeros(shape)})


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (3, 4)])
def test_a_scale_that_broadcasts_to_its_weights_is_accepted(shape):
    MetaPrior(torch.zeros(1, 2), {"w": torch.zeros(3, 4)}, {"w": torch.zeros(shape)})


def test_a_prior_whose_mappings_differ_in_names_is_refused():
    with pytest.raises(InvalidOptionError, match="different tensors"):
        MetaPrior(torch.zeros(1, 2), {"w": torch.zeros(3)}, {"v": torch.zeros(3)})


def test_a_head_that_shares_a_name_with_the_body_is_refused(make_prior):
    with pytest.raises(InvalidOptionError, match="share names"):
        posterior_at(make_prior(0), {"stem": torch.zeros(1)})


def test_a_task_without_examples_is_refused(make_task):
    task = make_task(0)
    with pytest.raises(InvalidOptionError, match="without examples"):
        Task(support=task.support, query=task.query, num_examples=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_masked_option_has_probability_exactly_zero(dtype):
    probabilities = torch.softmax(torch.tensor([0.3, MASKED_LOGIT, -2.0], dtype=dtype), dim=-1)
    assert probabilities[1] == 0
