"""A generator with more codes begins where the one with fewer stood."""

import pytest
import torch

from echogen.errors import InputError
from echogen.generators import EchoPulse
from echogen.generators.echopulse.grow_codebook import for_codes, grow_codebook


def test_the_same_picture_comes_from_more_codes(tiny: EchoPulse) -> None:
    torch.manual_seed(1)
    grown = grow_codebook(tiny.tokenizer, (5, 5, 3)).eval()
    video = torch.rand(1, 5, 128, 128)
    ids = grown.tokenize(video)
    assert torch.equal(ids % 25, tiny.tokenizer.tokenize(video))
    assert len((ids // 25).unique()) > 1
    torch.testing.assert_close(grown.decode_ids(ids), tiny.tokenizer.decode_ids(ids % 25))


def test_the_transformer_finds_all_codes_of_one_old_one_as_likely(tiny: EchoPulse) -> None:
    grown = for_codes(tiny.transformer, 75).eval()
    ids = torch.randint(76, (1, 3, 16, 1))
    old = torch.where(ids == 75, 25, ids % 25)
    clock, first = torch.arange(3.0)[None] / 8, torch.tensor([True])
    with torch.no_grad():
        new = grown(ids, clock, first, grown.condition(1))
        before = tiny.transformer(old, clock, first, tiny.transformer.condition(1))
    torch.testing.assert_close(new, before.repeat(1, 1, 1, 1, 3))


def test_levels_that_do_not_continue_the_old_ones_are_refused(tiny: EchoPulse) -> None:
    with pytest.raises(InputError, match="begin with 5, 5"):
        grow_codebook(tiny.tokenizer, (5, 4, 3))
    with pytest.raises(InputError, match="multiple"):
        for_codes(tiny.transformer, 60)
