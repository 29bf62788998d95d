"""`echogen adapt`: training of a model's tokenizer on the look of the user's own clips, and a list and merge of adapters."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echogen.commands.common import EchoRate, check_folder, check_fps, check_input, progress_bar
from echogen.errors import InputError
from echogen.files import whole_folder

if TYPE_CHECKING:
    from echogen.generators.base import Generator


def adapt(
    clips: Annotated[list[Path] | None, typer.Argument(metavar="CLIPS...", help="Echo videos to learn from.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="New folder; inside the model's folder adapters/ it has a name."),
    ] = None,
    model: Annotated[str, typer.Option("--model", metavar="NAME|DIR", help="A shipped model, or a folder.")] = "phantom-128",
    held_out: Annotated[
        list[Path] | None, typer.Option("--held-out", metavar="CLIP", help="A clip to judge by only; may be repeated.")
    ] = None,
    fps: EchoRate = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps; few clips bear few.")] = 150,
    rank: Annotated[int, typer.Option("--rank", min=1, max=256, help="Rank of the changes; more is larger.")] = 16,
    decoder_only: Annotated[
        bool, typer.Option("--decoder-only", help="Leave the codes of a video as they are; learn only how they are drawn.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed learns the same.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    merge: Annotated[
        str | None, typer.Option("--merge", metavar="NAME|DIR", help="Write the model with this adapter in it; takes no clips.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Say which adapters lie in the model's folder; takes no clips.")] = False,
) -> None:
    """Adapt a model to the look of a handful of clips (LoRA); use the result with `generate --adapter`."""
    if bool(clips) + (merge is not None) + show != 1:
        raise InputError("Give clips to learn from, or --merge with an adapter, or --list; one of the three.")
    if not clips and held_out:
        raise InputError("--held-out says by which clips to judge what is learned; give clips to learn from too.")
    if show:
        if output is not None:
            raise InputError("--list writes nothing; leave out -o.")
        typer.echo(_listing(model))
        return
    if output is None:
        raise InputError("Name the folder to write with -o.")
    _check_new(output)
    from echogen.generators.base import Generator

    if merge is not None:
        generator = Generator.from_pretrained(model, device, merge)
        with whole_folder(output) as unfinished:
            _save_merged(generator, merge, unfinished)
        typer.echo(f"Wrote {output}, {generator.name} with {merge} in it.")
        return
    assert clips is not None
    if importlib.util.find_spec("peft") is None:
        raise InputError("Adapting needs peft, which is not installed; run: pip install 'echogen[adapt]'.")
    check_fps(fps)
    judged = held_out or []
    for path in [*clips, *judged]:
        check_input(path)
    if {path.resolve() for path in clips} & {path.resolve() for path in judged}:
        raise InputError("A clip cannot be learned from and held out at once; name it once.")

    from echogen.training import adaptation as adapting

    generator = Generator.from_pretrained(model, device)
    tokenizer = adapting.check_tokenizer(generator.adaptable)
    known = [adapting.read_clip(path, tokenizer, fps) for path in clips]
    unknown = [adapting.read_clip(path, tokenizer, fps) for path in judged]
    plan = adapting.AdapterPlan(steps=steps, rank=rank, decoder_only=decoder_only, seed=seed)
    with progress_bar("adapting") as progress:
        adapted = adapting.adapt(tokenizer, known, plan, progress)
    facts: dict[str, Any] = {
        "base": generator.name,
        "base_weights_hash": generator.weights_hash,
        "clips": [clip.facts for clip in known],
        "held_out": [clip.facts for clip in unknown],
    }
    before, after, where = adapted.before, adapted.after, "on the clips it learned from"
    if unknown:
        before, after = (adapting.reconstruction_error(network, unknown)[0] for network in (tokenizer, adapted.tokenizer))
        facts |= {"held_out_before": before._asdict(), "held_out_after": after._asdict()}
        where = f"on {_clips(len(unknown), 'held-out ')}"
    with whole_folder(output) as unfinished:
        adapting.save_adapter(unfinished, adapted, tokenizer, facts)
    size = sum(path.stat().st_size for path in output.iterdir()) / 1e6
    typer.echo(
        f"Wrote {output} ({size:.1f} MB) from {_clips(len(known))} in {adapted.seconds / 60:.1f} min; "
        f"{where} MSE {before.mse:.2e} -> {after.mse:.2e}, MAE {before.mae:.4f} -> {after.mae:.4f}."
    )
    if unknown and after.mse > before.mse:
        typer.echo("Note: held-out clips are drawn worse than before; give more clips, or take fewer --steps.", err=True)


def _listing(model: str) -> str:
    """List the adapters of a model, one line each."""
    from echogen.generators.base import Generator
    from echogen.networks.adapters import adapter_folders, load_adapter

    generator = Generator.from_pretrained(model, "cpu")
    lines = []
    for folder in adapter_folders(generator.folder):
        facts = load_adapter(folder).facts
        change = f"MSE {facts['before']['mse']:.2e} -> {facts['after']['mse']:.2e}"
        lines.append(f"{folder.name}: {_clips(len(facts['clips']))}, {change} on them")
    return "\n".join(lines) or f"{generator.name} has no adapters."


def _clips(count: int, kind: str = "") -> str:
    return f"{count} {kind}clip{'' if count == 1 else 's'}"


def _check_new(output: Path) -> None:
    """Raise `InputError` for an output that exists, or whose folder does not; adapters/ in a model's folder is made."""
    from echogen.networks.adapters import ADAPTERS

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"The output {output} exists already; name a new folder.")
    parent = output.absolute().parent
    check_folder(parent.parent if parent.name == ADAPTERS else parent)


def _save_merged(generator: Generator, adapter: str, folder: Path) -> None:
    """Save the whole generator with its adapter merged, and beside it the description of the adapter."""
    from echogen.networks.adapters import ADAPTER_FACTS_FILE, find_adapter

    generator.save_pretrained(folder)
    shutil.copy(find_adapter(adapter, generator.folder) / ADAPTER_FACTS_FILE, folder)
