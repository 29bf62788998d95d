import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.samplers.maskgit import Guided, cosine, draw, guided, linear_ramp, masked_counts, sample

V = 7


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat_logits(ids: torch.Tensor) -> torch.Tensor:
    return torch.zeros(*ids.shape, V)


def fixed_logits(shape, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, V, generator=seeded(seed))


@given(masked=st.integers(0, 300), steps=st.integers(1, 40))
def test_the_counts_fall_along_the_cosine_to_zero(masked, steps):
    counts = masked_counts(masked, steps)
    assert len(counts) == min(masked, steps) if masked <= steps else len(counts) == steps
    assert all(later < earlier for earlier, later in zip([masked, *counts], counts, strict=False))
    assert not counts or counts[-1] == 0
    for step, count in enumerate(counts, 1):
        assert count <= masked * math.cos(math.pi / 2 * step / steps) + 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), groups=st.integers(1, 3), steps=st.integers(1, 9), ordered=st.booleans())
def test_everything_is_filled_and_what_was_given_stays(seed, groups, steps, ordered):
    ids = torch.randint(0, V, (2, 3, 4, groups), generator=seeded(seed))
    known = torch.rand(12, generator=seeded(seed)) < 0.3
    start = torch.where(known.view(3, 4, 1), ids, V)
    seen = []

    def predict(now):
        seen.append((now == V).any(-1).flatten(1).sum(1))
        assert ((now == V).all(-1) == (now == V).any(-1)).all()  # a position is masked as a whole
        return fixed_logits(now.shape, seed)

    order = torch.randperm(12, generator=seeded(seed)) if ordered else None
    out = sample(predict, start, V, steps=steps, generator=seeded(seed), order=order)
    assert ((out >= 0) & (out < V)).all()
    assert torch.equal(out[start != V], ids[start != V])
    hidden = int((~known).sum())
    assert [int(s[0]) for s in seen] == [hidden, *masked_counts(hidden, steps)][:-1]
    assert all((s == s[0]).all() for s in seen)


def test_the_same_generator_gives_the_same_ids_whatever_the_global_one_does():
    start = torch.full((2, 20, 1), V)
    first = sample(flat_logits, start, V, steps=4, generator=seeded(3))
    torch.rand(5)
    torch.manual_seed(99)
    assert torch.equal(first, sample(flat_logits, start, V, steps=4, generator=seeded(3)))
    assert not torch.equal(first, sample(flat_logits, start, V, steps=4, generator=seeded(4)))
    state = torch.get_rng_state()
    sample(flat_logits, start, V, steps=4, generator=seeded(3))
    assert torch.equal(state, torch.get_rng_state())


def test_with_a_generator_per_row_a_row_does_not_depend_on_its_batch():
    start = torch.full((3, 20, 2), V)
    together = sample(flat_logits, start, V, steps=5, generator=[seeded(i) for i in range(3)])
    for i in range(3):
        assert torch.equal(together[i : i + 1], sample(flat_logits, start[:1], V, steps=5, generator=[seeded(i)]))


def test_without_noise_the_likeliest_codes_are_taken_the_surest_first():
    logits = fixed_logits((1, 10, 1))
    states = []

    def predict(now):
        states.append(now.clone())
        return logits

    out = sample(predict, torch.full((1, 10, 1), V), V, steps=3, generator=seeded(), temperature=0, choice_temperature=0)
    assert torch.equal(out, logits.argmax(-1))
    confidence = logits.log_softmax(-1).amax(-1)[0, :, 0]
    revealed = (states[1] != V)[0, :, 0]
    assert 0 < revealed.sum() < 10
    assert confidence[revealed].min() >= confidence[~revealed].max()


def test_confidence_is_summed_over_the_groups_of_a_position():
    logits = torch.zeros(1, 2, 2, V)
    logits[0, 0, 0, 0] = 9.0  # very sure of one group, not of the other
    logits[0, 1, :, 0] = 6.0  # sure of both
    states = []

    def predict(now):
        states.append(now.clone())
        return logits

    sample(predict, torch.full((1, 2, 2), V), V, steps=2, generator=seeded(), temperature=0, choice_temperature=0)
    assert (states[1][0, 1] != V).all()
    assert (states[1][0, 0] == V).all()


def test_a_given_order_is_kept():
    order = torch.tensor([4, 0, 3, 1, 2])
    states = []

    def predict(now):
        states.append((now[0, :, 0] != V).nonzero().flatten().tolist())
        return flat_logits(now)

    sample(predict, torch.full((1, 5, 1), V), V, steps=5, generator=seeded(), order=order, schedule=lambda p: 1 - p)
    assert states == [[], [1], [1, 3], [1, 3, 4], [1, 2, 3, 4]]


def test_codes_are_drawn_with_their_probabilities():
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0]).expand(1, 40000, 1, 4)
    drawn = draw(logits.log_softmax(-1), 1.0, seeded())
    shares = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    torch.testing.assert_close(shares, logits[0, 0, 0].softmax(-1), atol=0.01, rtol=0)
    assert shares[2] == 0
    sharp = torch.bincount(draw(logits.log_softmax(-1), 0.25, seeded()).flatten(), minlength=4) / drawn.numel()
    torch.testing.assert_close(sharp, (logits[0, 0, 0] * 4).softmax(-1), atol=0.01, rtol=0)


def test_guidance_follows_its_formula_and_ramps_over_the_steps():
    conditional, unconditional = fixed_logits((1, 6, 1), 1), fixed_logits((1, 6, 1), 2)
    combine = guided(lambda ids: (conditional, unconditional), 3.0)
    expected = unconditional + 3 * (conditional - unconditional)
    torch.testing.assert_close(combine(torch.zeros(1, 6, 1)), expected)
    assert linear_ramp(1.0, 4.0, 4) == [1.0, 2.0, 3.0, 4.0]
    torch.testing.assert_close(guided(lambda ids: (conditional, unconditional), [1.0, 3.0])(torch.zeros(1), 1), expected)

    used = []

    class Recording(Guided):
        def __call__(self, ids, step=0):
            used.append(step)
            return super().__call__(ids, step)

    pair = Recording(lambda ids: (conditional, unconditional), linear_ramp(0.0, 3.0, 3))
    for _ in range(2):  # a second call starts over
        sample(pair, torch.full((1, 6, 1), V), V, steps=3, generator=seeded())
    assert used == [0, 1, 2, 0, 1, 2]


def test_per_step_temperatures_are_used():
    logits = fixed_logits((1, 10, 1))
    out = sample(
        lambda ids: logits, torch.full((1, 10, 1), V), V, steps=3, generator=seeded(), temperature=[0.0] * 3, choice_temperature=9
    )
    assert torch.equal(out, logits.argmax(-1))


def test_nothing_masked_needs_no_prediction():
    ids = torch.zeros(1, 4, 1, dtype=torch.int64)
    assert torch.equal(sample(lambda _: 1 / 0, ids, V, steps=3, generator=seeded()), ids)


def test_rows_with_different_counts_are_refused():
    ids = torch.tensor([[V, V], [0, V]]).unsqueeze(-1)
    with pytest.raises(InputError, match="same number"):
        sample(flat_logits, ids, V, steps=2, generator=seeded())


def test_the_cosine_starts_full_and_ends_empty():
    assert cosine(0) == 1
    assert abs(cosine(1)) < 1e-12


def test_with_a_score_the_least_real_tokens_are_guessed_again_even_when_kept_before():
    realness = torch.tensor([3.0, 2.0, 1.0, 0.0, 4.0])
    states, judged = [], []

    def predict(now):
        states.append((now[0, :, 0] == V).nonzero().flatten().tolist())
        return flat_logits(now)

    def score(ids):
        assert (ids != V).all()  # a critic sees a whole window
        judged.append(ids.clone())
        return (realness if len(judged) == 1 else -realness).expand(1, -1)

    start = torch.full((1, 5, 1), V)
    start[0, 4] = 2
    options = {"choice_temperature": 0.0, "schedule": lambda p: 1 - p}
    out = sample(predict, start, V, steps=4, generator=seeded(), score=score, **options)
    assert states == [[0, 1, 2, 3], [1, 2, 3], [0, 1], [0]]  # 0, kept first, is doubted later; 4 was given and is never asked
    assert len(judged) == 3
    assert int(out[0, 4]) == 2
    assert (out < V).all()


def test_who_watches_sees_what_was_hidden_and_what_was_said_of_it():
    seen = []
    out = sample(
        flat_logits,
        torch.full((1, 6, 1), V),
        V,
        steps=3,
        generator=seeded(),
        watch=lambda places, log_p: seen.append((places, log_p)),
    )
    assert [places.shape[1] for places, _ in seen] == [6, *masked_counts(6, 3)[:-1]]
    assert all(log_p.shape == (1, places.shape[1], 1, V) for places, log_p in seen)
    assert all(torch.allclose(log_p.exp().sum(-1), torch.ones(())) for _, log_p in seen)
    assert all(set(later[0].tolist()) < set(sooner[0].tolist()) for (sooner, _), (later, _) in pairwise(seen))
    assert torch.equal(out, sample(flat_logits, torch.full((1, 6, 1), V), V, steps=3, generator=seeded()))


def test_an_order_and_a_score_together_are_refused():
    start, order = torch.full((1, 4, 1), V), torch.arange(4)
    with pytest.raises(InputError, match="not both"):
        sample(flat_logits, start, V, steps=2, generator=seeded(), order=order, score=lambda ids: ids)
