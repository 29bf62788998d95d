"""What the tasks that train a masked transformer have in common: a critic beside it, and a tokenizer that fits it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.token_critic import Condition, critic_loss, load_critic, make_critic, with_guesses
from echogen.networks.video_tokenizer import VideoTokenizerConfig
from echogen.training.task import OptimizerGroup


def check_tokens(transformer: MaskedTransformerConfig, tokenizer: VideoTokenizerConfig, latents: int) -> None:
    """Raise `InputError` when the transformer does not take windows of `latents` of this tokenizer's latent frames."""
    codes = tokenizer.quantizer
    for what, has, needs in (
        ("codes (vocabulary)", transformer.vocabulary, codes.vocabulary),
        ("codes a position (groups)", transformer.groups, codes.groups),
        ("tokens a latent frame (spatial_positions)", transformer.spatial_positions, tokenizer.positions),
    ):
        if has != needs:
            raise InputError(
                f"The transformer expects {has} {what}, but the tokenizer makes {needs}; change the recipe's network."
            )
    if transformer.max_latents < latents:
        raise InputError(
            f"The transformer takes at most {transformer.max_latents} latent frames, but a window has {latents}; "
            f"raise the recipe's network.max_latents."
        )


class CriticTraining:
    """What a task adds when a critic learns beside its transformer (ECHOPulse Eqs. 9 and 10)."""

    def __init__(self, kind: str, weight: float, transformer: MaskedTransformer, start: Path | None) -> None:
        self.kind, self.weight, self.transformer = kind, weight, transformer
        self.critic = make_critic(kind, transformer)
        if self.critic is not None and start is not None and (start.parent / "critic").is_dir():
            self.critic = load_critic(start.parent / "critic", transformer)

    def networks(self) -> dict[str, nn.Module]:
        """The transformer and, if there is one, the critic."""
        return {"transformer": self.transformer, **({} if self.critic is None else {"critic": self.critic})}

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """A token critic has an optimizer of its own, so that the transformer learns as without it."""
        if self.kind == "token":
            return OptimizerGroup("transformer", ("transformer",)), OptimizerGroup("critic", ("critic",), loss="critic")
        return (OptimizerGroup("all", tuple(self.networks())),)

    def add(
        self, losses: dict[str, Tensor], batch: Mapping[str, Tensor], logits: Tensor, condition: Condition
    ) -> dict[str, Tensor]:
        """`losses` with that of the critic on the batch's windows, their hidden tokens drawn from the transformer's logits."""
        if self.critic is None:
            return losses
        shown = with_guesses(batch["ids"], batch["hidden"], logits)
        judged = self.critic(self.transformer, shown, batch["times_s"], batch["is_first"], condition)
        critic = critic_loss(judged, shown, batch["ids"])
        shared = {"loss": losses["loss"] + self.weight * critic} if self.kind == "self" else {}
        return losses | shared | {"critic": critic}
