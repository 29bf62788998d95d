"""Released files become folders that load again; what cannot be used leaves nothing behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from echogen.checkpoints import importers as importing
from echogen.checkpoints.full_keys import listed_tensors
from echogen.checkpoints.importers import Importer, import_weights
from echogen.checkpoints.verify import verify
from echogen.errors import InputError
from echogen.generators import EchoPulsePublished, Generator
from echogen.networks.config import load_network
from echogen.networks.published_tokenizer import PublishedTokenizerConfig
from echogen.networks.published_transformer import PublishedTransformerConfig
from echogen.networks.st_mem import StMem, StMemConfig

PARTS = {"cvivit": "cvivit", "maskgit": "maskgit", "encode_ekg": "stmem"}


@pytest.fixture(scope="module")
def recorded(fixtures_folder: Path) -> Path:
    return fixtures_folder / "echopulse"


@pytest.fixture
def released(recorded: Path, tmp_path: Path) -> Path:
    """A folder with one file of all networks as a training run saves it, and what its tensors do not tell beside it."""
    folder = tmp_path / "released"
    folder.mkdir()
    model = {
        f"{prefix}.{name}": tensor
        for prefix, file in PARTS.items()
        for name, tensor in load_file(recorded / f"{file}.safetensors").items()
    }
    model |= {"cvivit.loss_fn_lpips.lin0.weight": torch.ones(2), "cvivit.i3d.bn.num_batches_tracked": torch.tensor(3)}
    torch.save({"step": 7, "model": model, "opt": {"state": {}}}, folder / "model-7.pt")
    (folder / "manifest.json").write_text((recorded / "manifest.json").read_text())
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_file_or_three_make_the_same_generator(recorded: Path, released: Path, tmp_path: Path) -> None:
    import_weights("echopulse", [released / "model-7.pt"], tmp_path / "one")
    (tmp_path / "three").mkdir()
    steps: list[tuple[float, float]] = []
    files = [recorded / f"{name}.safetensors" for name in ("stmem", "cvivit", "maskgit")]
    import_weights("echopulse", files, tmp_path / "three", lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4)]
    one, three = (Generator.from_pretrained(tmp_path / name) for name in ("one", "three"))
    assert isinstance(one, EchoPulsePublished)
    assert isinstance(three, EchoPulsePublished)
    assert one.weights_hash == three.weights_hash
    given = json.loads((recorded / "manifest.json").read_text())["config"]
    assert one.config.frames == given["frames"]
    assert one.ecg.config.heads == given["stmem"]["heads"]
    assert left_in(tmp_path) == ["one", "released", "three"]


def test_a_later_file_counts(recorded: Path, released: Path, tmp_path: Path) -> None:
    tuned = {
        name: tensor + 1 if name.endswith("bias") else tensor
        for name, tensor in load_file(recorded / "cvivit.safetensors").items()
    }
    torch.save(tuned, released / "tuned.bin")
    import_weights("echopulse", [released / "model-7.pt", released / "tuned.bin"], tmp_path / "tuned")
    import_weights("echopulse", [released / "tuned.bin", released / "model-7.pt"], tmp_path / "plain")
    plain, second = (Generator.from_pretrained(tmp_path / name) for name in ("plain", "tuned"))
    assert isinstance(plain, EchoPulsePublished)
    assert isinstance(second, EchoPulsePublished)
    assert same(plain.transformer, second.transformer)
    assert not same(plain.tokenizer, second.tokenizer)


def test_the_ecg_encoder_alone(recorded: Path, released: Path, tmp_path: Path) -> None:
    import_weights("st-mem", [recorded / "stmem.safetensors"], tmp_path / "alone")
    import_weights("st-mem", [released / "model-7.pt"], tmp_path / "inside")
    assert same(load_network(StMem, tmp_path / "alone"), load_network(StMem, tmp_path / "inside"))
    with pytest.raises(InputError, match="one file"):
        import_weights("st-mem", [recorded / "stmem.safetensors"] * 2, tmp_path / "two")
    with pytest.raises(InputError, match="ST-MEM"):
        import_weights("st-mem", [recorded / "maskgit.safetensors"], tmp_path / "other")
    assert left_in(tmp_path) == ["alone", "inside", "released"]


def test_what_does_not_belong_together_leaves_nothing(recorded: Path, released: Path, tmp_path: Path) -> None:
    def refused(change: Mapping[str, Tensor | None], match: str, files: tuple[str, ...] = ("changed.pt",)) -> None:
        model = torch.load(released / "model-7.pt")["model"]
        for name, tensor in change.items():
            if tensor is None:
                del model[name]
            else:
                model[name] = tensor
        torch.save(model, released / "changed.pt")
        with pytest.raises(InputError, match=match):
            import_weights("echopulse", [released / name for name in files], tmp_path / "made")
        assert left_in(tmp_path) == ["released"]

    codes, width = load_file(recorded / "maskgit.safetensors")["token_emb.weight"].shape
    one_less = {"maskgit.token_emb.weight": torch.zeros(codes - 1, width), "maskgit.to_logits.bias": torch.zeros(codes - 2)}
    refused(one_less | {"maskgit.to_logits.weight": torch.zeros(codes - 2, width)}, "belong together")
    refused({"cvivit.to_pixels.0.bias": None}, r"1 missing \(head_group\.bias\)")
    refused({"maskgit.surprise": torch.zeros(1)}, r"1 unknown \(surprise\)")
    refused({"cvivit.vq.mask": torch.zeros(6)}, "lookup-free")
    (released / "only.pt").write_bytes((recorded / "maskgit.safetensors").read_bytes())
    refused({}, r"the tokenizer \(cvivit\.\*\) and the ecg \(encode_ekg\.\*\)", ("only.pt",))


def test_an_importer_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"weight": torch.ones(1)}, tmp_path / "w.pt")

    def half(files: list[dict[str, Tensor]], output: Path, given: Mapping[str, Any]) -> None:
        (output / "first.bin").write_bytes(b"1")
        raise OSError("disk full")

    monkeypatch.setitem(importing.IMPORTERS, "half", Importer("half a network", half))
    with pytest.raises(OSError, match="disk full"):
        import_weights("half", [tmp_path / "w.pt"], tmp_path / "out")
    assert left_in(tmp_path) == ["w.pt"]


def test_an_output_that_is_there_is_kept(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1)}, tmp_path / "w.pt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work").write_text("mine")
    for taken in ("full", "w.pt"):
        with pytest.raises(InputError, match="exists already"):
            import_weights("echopulse", [tmp_path / "w.pt"], tmp_path / taken)
    assert (tmp_path / "full" / "work").read_text() == "mine"


def test_the_names_in_whole_released_files_all_have_their_place(recorded: Path) -> None:
    results = verify(recorded, ["full_keys"])
    assert len(results) == 8
    assert [(result.file, result.error) for result in results if not result.passes] == []


def test_the_sizes_in_whole_released_files_are_the_published_ones(recorded: Path) -> None:
    from echogen.checkpoints.echopulse_weights import tokenizer_config, transformer_config
    from echogen.checkpoints.st_mem import config_of

    assert tokenizer_config(listed_tensors(recorded / "full_keys_cvivit.json")) == PublishedTokenizerConfig.published()
    assert transformer_config(listed_tensors(recorded / "full_keys_maskgit.json")) == PublishedTransformerConfig.published()
    assert config_of(listed_tensors(recorded / "full_keys_stmem.json")) == StMemConfig.paper()
