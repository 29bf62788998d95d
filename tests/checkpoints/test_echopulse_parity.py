import json
from dataclasses import replace

import pytest
import torch

from echogen.checkpoints.echopulse import CHECKS, our_names
from echogen.checkpoints.echopulse_weights import (
    critic_from,
    discriminator_config,
    discriminator_names,
    networks_from,
    split,
    tokenizer_config,
    transformer_config,
    transformer_from,
)
from echogen.errors import InputError
from echogen.networks.published_discriminator import PublishedDiscriminator
from echogen.networks.published_tokenizer import PublishedTokenizer, PublishedTokenizerConfig
from echogen.networks.published_transformer import PublishedCritic, PublishedTransformer, PublishedTransformerConfig

QUICK = [
    "cvivit_encode",
    "cvivit_decode",
    "cvivit_blocks",
    "vq_train_step",
    "maskgit",
    "token_critic",
    "phenaki_train",
    "discriminator",
    "sample_noprime_T0",
    "sample_prime1_T0",
    "sample_prime3_T0",
    "sample_prime1_T09",
    "sample_selfcritic_prime1_T09",
]


def assert_parity(folder, name):
    check = CHECKS[max((prefix for prefix in CHECKS if name.startswith(prefix)), key=len)]
    comparisons = check(folder / f"{name}.npz")
    assert comparisons
    assert [each for each in comparisons if not each.passes] == []


@pytest.mark.parametrize("name", QUICK)
def test_recorded_outputs_come_out(fixtures_folder, name):
    assert_parity(fixtures_folder / "echopulse", name)


@pytest.mark.slow
def test_recorded_outputs_of_full_size_come_out(fixtures_folder):
    assert_parity(fixtures_folder / "echopulse", "full_procedural")


def listed(folder, *names):
    """The tensors that released files list, without their numbers."""
    keys = [key for name in names for key in json.loads((folder / "echopulse" / f"full_keys_{name}.json").read_text())["keys"]]
    return {name: torch.empty(shape, device="meta") for name, shape, *_ in keys}


def shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("files", "part", "config_of", "kind"),
    [
        (("cvivit",), "tokenizer", tokenizer_config, PublishedTokenizer),
        (("cvivit", "cvivit_training_extras", "discriminator"), "tokenizer", tokenizer_config, PublishedTokenizer),
        (("maskgit",), "transformer", transformer_config, PublishedTransformer),
        (("phenaki",), "tokenizer", tokenizer_config, PublishedTokenizer),
        (("phenaki",), "transformer", transformer_config, PublishedTransformer),
    ],
)
def test_every_name_of_a_released_file_finds_its_place(fixtures_folder, files, part, config_of, kind):
    tensors = split(listed(fixtures_folder, *files))[part]
    config = config_of(tensors)
    with torch.device("meta"):
        network = kind(config)
    assert config == kind.config_class.published()
    assert shapes(our_names(tensors)) == shapes(network.state_dict())


def test_every_name_of_the_critics_finds_its_place(fixtures_folder):
    critic, discriminator = listed(fixtures_folder, "token_critic"), listed(fixtures_folder, "discriminator")
    with torch.device("meta"):
        ours = PublishedCritic(transformer_config(critic)), PublishedDiscriminator(discriminator_config(discriminator))
    assert shapes(our_names(critic)) == shapes(ours[0].state_dict())
    assert shapes(discriminator_names(discriminator)) == shapes(ours[1].state_dict())
    assert ours[1].config == PublishedDiscriminator.config_class.published()


def test_a_whole_file_has_three_networks(fixtures_folder):
    tensors = listed(fixtures_folder, "phenaki")
    assert set(split(tensors)) == {"tokenizer", "transformer", "ecg"}
    named = our_names({**tensors, "steps": torch.zeros(1), "cvivit.i3d.logits.conv3d.weight": torch.zeros(2)})
    assert {name.split(".")[0] for name in named} == {"tokenizer", "transformer"}


def test_the_lookup_free_tokenizer_is_refused(fixtures_folder):
    with pytest.raises(InputError, match="lookup-free tokenizer"):
        networks_from(listed(fixtures_folder, "cvivit_pip042_step1"))
    with pytest.raises(InputError, match="lookup-free tokenizer"):
        our_names({"cvivit.vq.mask": torch.zeros(13)})


def test_what_is_missing_unknown_or_foreign_is_said():
    with pytest.raises(InputError, match="neither ECHOPulse's tokenizer nor its transformer"):
        split({"weight": torch.zeros(1)})
    with pytest.raises(InputError, match=r"q_scale is missing"):
        transformer_config({"token_emb.weight": torch.zeros(3, 4)})
    kept = our_names({"transformer.layers.0.1.null_kv": torch.zeros(2, 4, 3), "a.layers.0.1.null_kv": torch.zeros(2, 0, 3)})
    assert list(kept) == ["stack.blocks.0.attention.null"]


RELEASED = {
    "stack.norm": "transformer.norm_out",
    "stack.blocks": "transformer.layers",
    "position_bias.first": "continuous_pos_bias.net.0.0",
    "position_bias.second": "continuous_pos_bias.net.1.0",
    "position_bias.last": "continuous_pos_bias.net.2",
    "peg.conv": "0.dsconv",
    "attention": "1",
    "cross": "2",
    "feed_forward.norm": "3.0",
    "feed_forward.rise": "3.1",
    "feed_forward.fall": "3.4",
    "query": "to_q",
    "key_value": "to_kv",
}


def released(network, prefix=""):
    """A masked transformer's or critic's weights under their released names."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        stem, _, kind = name.rpartition(".")
        for ours, theirs in RELEASED.items():
            stem = stem.replace(ours, theirs)
        stem = {"token": "token_emb", "position": "pos_emb", "head": "to_logits"}.get(stem, stem)
        stem = stem.removesuffix(".out") + ".to_out" if stem.endswith(".out") else stem
        if stem.endswith((".norm", "norm_out")):
            kind = {"weight": "gamma", "bias": "beta"}[kind]
        kind = {"query_scale": "q_scale", "key_scale": "k_scale", "null": "null_kv"}.get(kind, kind)
        tensors[f"{prefix}{stem}.{kind}"] = tensor.flatten(1, 2) if kind == "null_kv" else tensor
    return tensors


def test_weights_of_other_sizes_keep_their_function():
    torch.manual_seed(0)
    config = PublishedTransformerConfig(
        vocabulary=11, max_tokens=20, dim=12, depth=3, heads=3, head_dim=5, feed_forward=9, context_dim=7, null_keys=1
    )
    network = PublishedTransformer(config).eval()
    again = transformer_from(released(network))
    assert again.config == config
    ids, context = torch.randint(0, 12, (2, 18)), torch.randn(2, 1, 7)
    outputs = [each(ids, (3, 2, 3), each.encode_context(context)) for each in (network, again)]
    assert torch.equal(*outputs)
    lonely = PublishedCritic(replace(config, context_dim=None, null_keys=0)).eval()
    assert torch.equal(critic_from(released(lonely))(ids, (3, 2, 3)), lonely(ids, (3, 2, 3)))
    with pytest.raises(InputError, match="unknown"):
        transformer_from({**released(network), "extra": torch.zeros(1)})


def test_tokenizer_and_transformer_must_share_their_codes(monkeypatch):
    from echogen.checkpoints import echopulse_weights

    tiny = PublishedTokenizerConfig(dim=8, heads=1, head_dim=4, feed_forward=4, codebook_size=5, codebook_dim=2)
    monkeypatch.setattr(echopulse_weights, "tokenizer_from", lambda *_: PublishedTokenizer(tiny))
    transformer = PublishedTransformer(
        PublishedTransformerConfig(vocabulary=6, dim=8, depth=1, heads=1, head_dim=4, feed_forward=4)
    )
    with pytest.raises(InputError, match="5 codes but the transformer expects 6"):
        networks_from({"cvivit.x": torch.zeros(1), **released(transformer, "maskgit.")})
