"""Sentences as conditions: a tiny random T5 with a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from echogen.errors import InputError
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.text import TextEncoder, ef_sentence

WORDS = ("<pad>", "</s>", "<unk>", "An", "echocardiogram", "with", "an", "ejection", "fraction", "of", "percent", ".", "30", "65")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(path)
    config = transformers.T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TextEncoder:
    return TextEncoder(folder)


def test_a_sentence_becomes_tokens_without_times(encoder: TextEncoder) -> None:
    tokens = encoder([ef_sentence(30), "An echocardiogram ."])
    assert tokens.times_s is None
    assert tokens.values.shape == (2, 11, encoder.dim)
    assert tokens.mask.sum(1).tolist() == [11, 4]
    alone = encoder(["An echocardiogram ."])
    torch.testing.assert_close(tokens.values[1, :4], alone.values[0])  # a sentence does not depend on those beside it


def test_a_text_that_is_absent_shows_nothing(encoder: TextEncoder) -> None:
    tokens = encoder([None, "", ef_sentence(65)])
    assert tokens.mask.any(1).tolist() == [False, False, True]
    assert bool(tokens.values.isfinite().all())


def test_the_encoder_stays_as_it_is(encoder: TextEncoder) -> None:
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert not encoder.train().encoder.training


def test_the_text_changes_what_a_transformer_says(encoder: TextEncoder) -> None:
    torch.manual_seed(0)
    network = MaskedTransformer(
        MaskedTransformerConfig(
            vocabulary=5, spatial_positions=4, max_latents=2, dim=16, depth=1, heads=2, cross_attention_every=1,
            adaptive_norm=False, ecg=None, context_dim=encoder.dim,
        )
    ).eval()  # fmt: skip
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    ids = torch.full((1, 2, 4, 1), 5)

    def logits(text: str | None) -> torch.Tensor:
        with torch.no_grad():
            conditioning = network.condition(1, context=encoder([text]))
            return network(ids, torch.tensor([[0.0, 0.1]]), torch.ones(1, dtype=torch.bool), conditioning)

    assert float((logits(ef_sentence(30)) - logits(ef_sentence(65))).abs().max()) > 1e-3
    assert float((logits(ef_sentence(30)) - logits(None)).abs().max()) > 1e-3
    nothing = network(ids, torch.tensor([[0.0, 0.1]]), torch.ones(1, dtype=torch.bool), network.condition(1))
    torch.testing.assert_close(logits(None), nothing)  # as if no text were there at all


def test_the_sentence_holds_the_ejection_fraction() -> None:
    assert "55 percent" in ef_sentence(54.6)
    assert ef_sentence(30) != ef_sentence(31)
    with pytest.raises(InputError, match="between 0 and 100"):
        ef_sentence(120)


def test_a_folder_without_an_encoder_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="cannot be loaded"):
        TextEncoder(tmp_path)
