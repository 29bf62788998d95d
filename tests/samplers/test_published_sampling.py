from itertools import pairwise

import pytest
import torch

from echogen.errors import InputError
from echogen.samplers import published
from echogen.samplers.published import RandomChoices, RecordedChoices, draw_codes, hidden_count, likelihood, sample

CODES, MASK = 7, 7


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def predict():
    table = torch.randn(2, 16, CODES) * 3

    def logits(ids, places):
        seen = torch.nn.functional.one_hot(ids, CODES + 1).float().mean(1)[:, None, :CODES]
        return (table + seen).gather(1, places.unsqueeze(-1).expand(-1, -1, CODES))

    return logits


def test_the_published_schedule():
    counts = [hidden_count(step, 18, 1280) for step in range(18)]
    assert counts[0] == 1280
    assert counts[1] == 1275
    assert counts[17] == 112
    assert hidden_count(17, 18, 2) == 1


@pytest.mark.parametrize("known", [0, 5])
def test_known_ids_stay_and_every_new_one_is_filled(predict, known):
    start = torch.randint(0, CODES, (2, known))
    seen = []

    def watched(ids, places):
        hidden = (ids == MASK).nonzero()[:, 1].view(2, -1)
        assert torch.equal(hidden, places.sort(-1).values)
        seen.append(hidden.shape[1])
        return predict(ids, places)

    ids = sample(watched, start, 16 - known, MASK, RandomChoices(torch.Generator().manual_seed(1)), steps=6)
    assert torch.equal(ids[:, :known], start)
    assert (ids < CODES).all()
    assert seen == [hidden_count(step, 6, 16 - known) for step in range(6)]


def test_tokens_once_kept_stay_without_a_critic_and_may_go_with_one(predict):
    def run(score):
        inputs = []

        def watched(ids, places):
            inputs.append(ids)
            return predict(ids, places)

        chance = RandomChoices(torch.Generator().manual_seed(1))
        sample(watched, torch.zeros(2, 0, dtype=torch.int64), 16, MASK, chance, steps=8, score=score, noise_scale=0.0)
        return [((before != MASK) & (after == MASK)).any() for before, after in pairwise(inputs)]

    assert not any(run(None))
    turn = iter(range(8))
    assert any(run(lambda ids: torch.arange(16.0).roll(5 * next(turn)).expand(2, -1)))


def test_recorded_uniforms_decide_as_gumbel_noise(predict):
    steps, known = 4, torch.zeros(2, 0, dtype=torch.int64)
    uniforms = torch.rand(steps, 2, 16, CODES)
    ids = sample(predict, known, 16, MASK, RecordedChoices(uniforms), steps=1, temperature=0.9)
    likeliest = predict(torch.full((2, 16), MASK), torch.arange(16).expand(2, -1)).argmax(-1)
    assert torch.equal(ids, likeliest)  # the temperature of the last step is 0
    first = sample(predict, known, 16, MASK, RecordedChoices(uniforms), steps=steps)
    assert torch.equal(first, sample(predict, known, 16, MASK, RecordedChoices(uniforms), steps=steps))
    other = sample(predict, known, 16, MASK, RecordedChoices(torch.rand_like(uniforms)), steps=steps, temperature=50.0)
    assert not torch.equal(first, other)


def test_what_was_not_recorded_cannot_be_replayed(predict):
    known = torch.zeros(2, 0, dtype=torch.int64)
    with pytest.raises(InputError, match="no numbers for a critic"):
        sample(predict, known, 16, MASK, RecordedChoices(), steps=3, score=lambda ids: torch.zeros(ids.shape))
    with pytest.raises(InputError, match="at least one new token"):
        sample(predict, known, 0, MASK, RecordedChoices())


@pytest.mark.parametrize("codes", [2, 7, 64, 100])
@pytest.mark.parametrize("cached", [1, 1 << 19])
def test_codes_are_drawn_through_the_inverse_of_their_cumulative_distribution(codes, cached, monkeypatch):
    monkeypatch.setattr(published, "CACHED", cached)
    logits = torch.randn(2, 40, codes) * 3
    drawn = draw_codes(logits, 0.7, torch.Generator().manual_seed(3))
    numbers = torch.rand(2, 40, generator=torch.Generator().manual_seed(3)).double().unsqueeze(-1)
    upto = (logits.double() / 0.7).softmax(-1).cumsum(-1)
    sure = ((upto - numbers).abs() > 1e-5).all(-1)
    assert sure.float().mean() > 0.9
    assert torch.equal(drawn[sure], torch.searchsorted(upto, numbers).squeeze(-1)[sure])
    assert torch.equal(draw_codes(logits, 0.0, torch.Generator()), logits.argmax(-1))
    expected = logits.softmax(-1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(likelihood(logits, drawn), expected)


def test_codes_without_probability_are_not_drawn():
    logits = torch.full((1, 300, 50), -200.0)
    logits[..., 17] = logits[..., 49] = 0.0
    assert set(draw_codes(logits, 0.5, torch.Generator().manual_seed(0)).unique().tolist()) == {17, 49}
