"""Import of EchoDiffusion's released cascades, and checks of echogen's networks and sampler against recorded outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from echogen.checkpoints.comparison import Check, Comparison, largest_error
from echogen.checkpoints.echodiffusion_weights import our_name, video_unet_from
from echogen.checkpoints.reading import read_tensors
from echogen.cine.published_timing import published_resample
from echogen.errors import InputError
from echogen.generators.echodiffusion.cascade import Cascade, CascadeConfig, Stage, frames_per_second, published_cascade, resized
from echogen.generators.echodiffusion.generator import EchoDiffusion, EchoDiffusionConfig
from echogen.metrics.pictures.likeness import ssim
from echogen.networks.video_unet import VideoUnet
from echogen.samplers.edm import (
    Edm,
    add_noise,
    dynamic_threshold,
    edm_loss,
    estimate_clean,
    log_snr,
    loss_weight,
    noise_levels,
    preconditioning,
    recorded_normal,
)

#: Largest error of guided outputs: guidance multiplies the rounding error of a difference.
GUIDED_TOLERANCE = 2e-4
#: Chance that a training row goes without its EF.
EF_DROPOUT = 0.1
_STAGE = re.compile(r"(?:(\d+)\.ema_model|unets\.(\d+))\.(.+)")
_BESIDE_THE_WEIGHTS = re.compile(r"\d+\.(online_model\..+|initted|step)")
#: Settings of a network that its tensors do not show, with the only supported value.
_FIXED = {"scale_skip_connection": True, "time_causal_attn": True, "pixel_shuffle_upsample": True, "self_cond": False}
#: Settings of a cascade with the only supported value.
_FIXED_IN_CASCADES = {"auto_normalize_img": True, "dynamic_thresholding": True}


def split_stages(files: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Split released files into the tensors of each stage, averaged weights where there are any, under a network's own names.

    files: A merged file ('0.ema_model.*' and on, or 'unets.0.*' and on), or several, of which a later one wins.
    Raises `InputError` for a name that belongs to no stage, or a stage that is missing.
    """
    stages: dict[int, dict[str, Tensor]] = {}
    for tensors in files:
        for name, tensor in tensors.items():
            if match := _STAGE.fullmatch(name):
                stages.setdefault(int(match[1] or match[2] or 0), {})[match[3]] = tensor
            elif not _BESIDE_THE_WEIGHTS.fullmatch(name):
                raise InputError(f"The tensor {name} belongs to no stage of EchoDiffusion; give the file merged.pt.")
    if sorted(stages) != list(range(len(stages))) or not stages:
        found = ", ".join(str(index + 1) for index in sorted(stages)) or "none"
        raise InputError(f"The files hold these stages only: {found}; give the file with all stages.")
    return [stages[index] for index in range(len(stages))]


def _each(value: Any, count: int) -> list[Any]:
    """Setting as a list of one value a stage."""
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise InputError(f"The configuration has {len(values)} values ({value}) for {count} stages.")
    return values


def cascade_of(imagen: Mapping[str, Any], frames: int, guidance: float = 5.0) -> CascadeConfig:
    """Make a cascade from the part 'imagen' of a released config.yaml; absent settings are the library's defaults.

    frames: Number of frames of the last stage. Raises `InputError` for settings that are not supported.
    """
    sizes = imagen.get("image_sizes")
    sizes = [sizes] if isinstance(sizes, int) else list(sizes or [])
    _refuse_others(imagen, _FIXED_IN_CASCADES, "cascade")
    if not sizes:
        raise InputError("The configuration names no image_sizes; give the config.yaml that belongs to the weights.")
    count = len(sizes)
    shrinks = _each(imagen.get("temporal_downsample_factor", 1), count)
    steps, churns = _each(imagen.get("num_sample_steps", 32), count), _each(imagen.get("S_churn", 80), count)
    if any(frames % shrink for shrink in shrinks):
        raise InputError(f"The {frames} frames of the last stage cannot be divided by {shrinks}.")
    usual = Edm()
    names = {
        "sigma_min": "sigma_min", "sigma_max": "sigma_max", "sigma_data": "sigma_data", "rho": "rho", "ln_sigma_mean": "P_mean",
        "ln_sigma_std": "P_std", "churn_from": "S_tmin", "churn_to": "S_tmax", "churn_noise": "S_noise",
        "threshold": "dynamic_thresholding_percentile",
    }  # fmt: skip
    constants = {}
    for ours, theirs in names.items():
        values = {float(value) for value in _each(imagen.get(theirs, getattr(usual, ours)), count)}
        if len(values) > 1:
            raise InputError(f"Stages with a {theirs} of their own are not supported; the configuration has {sorted(values)}.")
        constants[ours] = values.pop()
    return CascadeConfig(
        tuple(
            Stage(int(size), frames // int(shrink), int(step), float(churn))
            for size, shrink, step, churn in zip(sizes, shrinks, steps, churns, strict=True)
        ),
        edm=Edm(**constants),
        resize=imagen.get("resize_mode", "nearest"),
        lowres_level=float(imagen.get("lowres_sample_noise_level", 0.2)),
        told="level",
        guidance=guidance,
    )


def _refuse_others(stated: Mapping[str, Any], fixed: Mapping[str, Any], what: str) -> None:
    for name, value in fixed.items():
        if stated.get(name, value) != value:
            raise InputError(f"A {what} with {name}: {stated[name]} is not supported.")


def echodiffusion_from(files: Sequence[Mapping[str, Tensor]], given: Mapping[str, Any]) -> EchoDiffusion:
    """Make the generator with released weights.

    given: Content of the config.yaml beside them (unets, imagen, dataset, checkpoint); without it the cascade is the published
        one with as many stages and the same networks.
    Raises `InputError` where no published one has, or tensors do not fit.
    """
    stages = split_stages(files)
    networks = [video_unet_from(tensors, f"video U-Net of stage {number}") for number, tensors in enumerate(stages, start=1)]
    if "imagen" in given:
        for unet in (given.get("unets") or {}).values():
            _refuse_others(unet, _FIXED | {"resnet_groups": VideoUnet.config_class().groups}, "network")
        dataset = given.get("dataset") or {}
        fps, seconds = float(dataset.get("fps", 32)), float(dataset.get("duration", 2.0))
        guidance = float((given.get("checkpoint") or {}).get("cond_scale", 5.0))
        return _generator(EchoDiffusionConfig(cascade_of(given["imagen"], round(fps * seconds), guidance), fps), networks)
    name = f"{len(networks)}SCM"
    try:
        cascade, expected = published_cascade(name)
    except InputError:
        expected = ()
    if tuple(network.config for network in networks) != expected:
        raise InputError("These networks are of no published cascade; put the config.yaml that belongs to them beside the file.")
    return _generator(EchoDiffusionConfig(cascade, frames_per_second(cascade)), networks)


def _generator(config: EchoDiffusionConfig, networks: Sequence[VideoUnet]) -> EchoDiffusion:
    return EchoDiffusion(config, networks, torch.device("cpu"))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name.removesuffix(".io.safetensors") + ending)


def _described(path: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(_beside(path, ".json").read_text(encoding="utf-8"))
    return described


def check_network(path: Path) -> list[Comparison]:
    """Compare all recorded outputs of one network, and gradients as a share of the largest."""
    record = read_tensors(path)
    network = video_unet_from(read_tensors(_beside(path, ".weights.safetensors")))
    ef_values = torch.where(record["in.text_mask"][:, 0], record["in.text_embeds"][:, 0, 0], 0.0)
    second = torch.arange(len(ef_values)) == 1
    video = record["in.x"].clone().requires_grad_()
    smaller = {}
    if network.config.lowres:
        smaller = {"lowres": record["in.lowres_cond_img"], "lowres_level": record["in.lowres_noise_times"]}

    def run(ef: Tensor | None = ef_values, **how: Any) -> Tensor:
        output: Tensor = network(video, record["in.time"], record["in.cond_images"], ef, **smaller, **how)
        return output

    cond = run()
    (cond * record["grad.w_cotangent"]).sum().backward()
    with torch.no_grad():
        outputs = {"cond": cond, "null": run(None), "ignore_time": run(still=True)}
        outputs["mask_second_false"] = run(torch.where(second, 0.0, ef_values))
    comparisons = []
    for name, recorded in record.items():
        if guided := re.fullmatch(r"out\.cfg([\d.]+)", name):
            ours = outputs["null"] + float(guided[1]) * (cond - outputs["null"])
            comparisons.append(Comparison(name, largest_error(ours.detach(), recorded), GUIDED_TOLERANCE))
        elif name.startswith("out."):
            comparisons.append(Comparison(name, largest_error(outputs[name.removeprefix("out.")].detach(), recorded)))
        elif name.startswith("grad.") and name != "grad.w_cotangent":
            which = name.removeprefix("grad.")
            gradient = video.grad if which == "x" else network.get_parameter(our_name(which)).grad
            scale = max(float(recorded.abs().max()), 1e-12)
            error = (
                float("inf") if gradient is None else largest_error(gradient.reshape(recorded.shape) / scale, recorded / scale)
            )
            comparisons.append(Comparison(name, error))
    return comparisons


@torch.no_grad()
def check_cascade(path: Path) -> list[Comparison]:
    """Compare preconditioning, thresholds, schedules, resizing, losses, and whole sampling traces with recorded draws."""
    record, described = read_tensors(path), _described(path)
    networks = [video_unet_from(stage) for stage in split_stages([read_tensors(_beside(path, ".weights.safetensors"))])]
    config = replace(cascade_of(described["imagen"], described["video_frames"]), dtype="float32")
    checks = (_numerics, _resizes, _traces, _losses)
    return [comparison for check in checks for comparison in check(record, described, Cascade(config, networks))]


def _numerics(record: Mapping[str, Tensor], described: Mapping[str, Any], cascade: Cascade) -> Iterator[Comparison]:
    edm = cascade.config.edm
    sigma = record["precond.sigma"]
    quantile = edm.threshold or 1.0
    for name, ours in preconditioning(sigma, edm.sigma_data)._asdict().items():
        theirs = {"skip": "c_skip", "out": "c_out", "into": "c_in", "noise": "c_noise"}[name]
        yield Comparison(f"precond.{theirs}", largest_error(ours, record[f"precond.{theirs}"]), 1e-5)
    weight = loss_weight(sigma, edm.sigma_data) / record["precond.loss_weight"]
    yield Comparison("precond.loss_weight", largest_error(weight, torch.ones_like(weight)), 1e-5)
    rows = len(sigma)
    frame, ef = record["in.cond_images"].expand(rows, -1, -1, -1), record["in.text_embeds"][:, 0, 0].expand(rows)
    for guidance, name in ((1.0, "precond.D_raw"), (5.0, "precond.D_dynamic_cfg5")):
        clean = estimate_clean(cascade.predict(0, frame, ef, guidance, None), record["precond.x"], sigma, edm.sigma_data)
        if guidance == 1.0:
            yield Comparison(name, largest_error(clean, record[name]))
            yield Comparison("precond.D_clamp_static", largest_error(clean.clamp(-1, 1), record["precond.D_clamp_static"]))
            thresholded = dynamic_threshold(clean, quantile)
            yield Comparison("precond.D_clamp_dynamic", largest_error(thresholded, record["precond.D_clamp_dynamic"]))
        else:
            yield Comparison(name, largest_error(dynamic_threshold(clean, quantile), record[name]), GUIDED_TOLERANCE)
    yield Comparison("thresh.dynamic", largest_error(dynamic_threshold(record["thresh.x"], quantile), record["thresh.dynamic"]))
    for name, levels in record.items():
        if name.startswith("schedule.N"):
            yield Comparison(name, largest_error(noise_levels(int(name.removeprefix("schedule.N")), edm), levels))
    ratio = log_snr(record["lowres.t"])
    for name, ours in (("log_snr", ratio), ("alpha", ratio.sigmoid().sqrt()), ("sigma", (-ratio).sigmoid().sqrt())):
        yield Comparison(f"lowres.{name}", largest_error(ours, record[f"lowres.{name}"]))


def _resizes(record: Mapping[str, Tensor], described: Mapping[str, Any], cascade: Cascade) -> Iterator[Comparison]:
    video = record["resize.v"]
    frames, size = video.shape[2], video.shape[-1]
    for how in sorted({name.split(".")[1] for name in record if name.startswith("resize.") and name != "resize.v"}):
        ours = {
            "down_t": resized(video, frames // 2, size, how),
            "down_up": resized(resized(video, frames // 4, size // 2, how), frames, size, how),
            "up_s": resized(video, frames, 2 * size, how),
            "up_ts": resized(video, 2 * frames, 2 * size, how),
        }
        for name, made in ours.items():
            yield Comparison(f"resize.{how}.{name}", largest_error(made, record[f"resize.{how}.{name}"]))


def _traces(record: Mapping[str, Tensor], described: Mapping[str, Any], cascade: Cascade) -> Iterator[Comparison]:
    """Compare sampling with recorded draws: each call of the network (inputs as a share of the largest value) and all videos."""
    for trace, how in described["traces"].items():
        stages = tuple(replace(stage, churn=float(how["churn"])) for stage in cascade.config.stages)
        again = Cascade(replace(cascade.config, stages=stages), cascade.networks)
        # Draws that have no part in it were not recorded.
        draws = [record.get(f"{trace}.noise{index:03d}.{kind}") for index, (kind, _) in enumerate(how["noise_order"])]
        looks: list[tuple[Tensor, float, Tensor]] = []
        videos = again.sample(
            record["in.cond_images"],
            record["in.text_embeds"][:, 0, 0],
            recorded_normal(draws),
            guidance=float(how["cond_scale"]),
            watch=lambda _, *look, looks=looks: looks.append(look),
        )
        tolerance = 1e-4 if how["cond_scale"] == 1 else GUIDED_TOLERANCE
        yield Comparison(f"{trace}.calls", abs(len(looks) - how["n_calls"]), 0.0)
        for index, (noisy, sigma, clean) in enumerate(looks):
            call = f"{trace}.call{index:03d}"
            scale = max(1.0, float(record[f"{call}.x"].abs().max()))
            yield Comparison(f"{call}.x", largest_error(noisy / scale, record[f"{call}.x"] / scale), tolerance)
            yield Comparison(f"{call}.sigma", abs(sigma / float(record[f"{call}.sigma"]) - 1.0), 1e-5)
            yield Comparison(f"{call}.D", largest_error(clean, record[f"{call}.D"]), tolerance)
        for number, video in enumerate(videos, start=1):
            yield Comparison(f"{trace}.out{number}", largest_error(video, record[f"{trace}.out{number}"]), tolerance)


def _losses(record: Mapping[str, Tensor], described: Mapping[str, Any], cascade: Cascade) -> Iterator[Comparison]:
    """Compare training losses with recorded draws. Without attention in time the published code drops no frames."""
    config, edm = cascade.config, cascade.config.edm
    for name, how in described["losses"].items():
        index, still = int(name.split(".")[1].removeprefix("stage")) - 1, name.endswith("ignore_time")
        images = record[f"train.stage{index + 1}.images"]
        draws = [record[f"{name}.draw{number}.{kind}"] for number, (kind, _) in enumerate(how["draws"])]
        stage, network = config.stages[index], cascade.networks[index]
        rows = len(images)
        frames = images.shape[2] if still else stage.frames
        smaller = {}
        if index:
            before = config.stages[index - 1]
            video = resized(images, frames if still else before.frames, before.size, config.resize)
            level = draws[0].expand(rows)
            video = resized(video, frames, stage.size, config.resize) * 2.0 - 1.0
            smaller = {"lowres": add_noise(video, level, draws[1]), "lowres_level": log_snr(level)}
        ln_sigma, noise, kept = draws[-3:]
        frame, ef = record["in.cond_images"].expand(rows, -1, -1, -1), record["in.text_embeds"][:, 0, 0].expand(rows)
        conditions: dict[str, Any] = {"frame": frame, "ef": ef, "keep": kept < 1.0 - EF_DROPOUT, "still": still, **smaller}
        loss = edm_loss(
            partial(network, **conditions),
            resized(images, frames, stage.size, config.resize) * 2.0 - 1.0,
            edm.ln_sigma_mean + edm.ln_sigma_std * ln_sigma,
            noise,
            edm.sigma_data,
        ).mean()
        yield Comparison(name, largest_error(loss, record[f"{name}.loss"]))


def check_preparation(path: Path) -> list[Comparison]:
    """Compare resampling in time, interpolated frames, bytes, and the structural similarity of the published evaluation."""
    record = read_tensors(path)
    comparisons = []
    for name, recorded in record.items():
        if name.startswith("zoom.fps"):
            video = published_resample(record["zoom.in"].transpose(0, 1).numpy(), float(name.removeprefix("zoom.fps")), 32.0)
            comparisons.append(Comparison(name, largest_error(video.swapaxes(0, 1), recorded), 0.0))
    more = record["upsample.out"]
    ours = resized(record["upsample.in"], more.shape[2], more.shape[-1], "trilinear")
    comparisons.append(Comparison("upsample.out", largest_error(ours, more)))
    shown = (record["uint8.in"].clamp(0.0, 1.0) * 255.0).to(torch.uint8)
    comparisons.append(Comparison("uint8.out", largest_error(shown, record["uint8.out"]), 0.0))
    seen = ssim(record["ssim.pred"].numpy(), record["ssim.target"].numpy())
    comparisons.append(Comparison("ssim.value", largest_error(seen, record["ssim.value"])))
    return comparisons


def check_names(path: Path) -> list[Comparison]:
    """Check that one stage at full size fits the published network by names and shapes, and has the published sampling."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        network = video_unet_from({name: torch.empty(shape) for name, shape in listed["keys"].items()})
    config, networks = published_cascade(listed["model"])
    index = listed["stage"] - 1
    imagen = listed["hparams"] | {"image_sizes": listed["image_size"], "resize_mode": listed["resize_mode"]}
    stated = cascade_of(imagen, config.stages[index].frames)
    same = (stated.stages[0], stated.edm, stated.resize) == (config.stages[index], config.edm, config.resize)
    return [
        Comparison("networks that differ", float(network.config != networks[index]), 0.0),
        Comparison("samplings that differ", float(not same), 0.0),
    ]


#: Checks by the prefix of the recorded file's name.
CHECKS: dict[str, Check] = {
    "ed_unet_": check_network,
    "ed_cascade": check_cascade,
    "ed_preproc_": check_preparation,
    **{f"full_keys_{name}_": check_names for name in ("1SCM", "2SCM", "4SCM")},
}
