"""Shared parts of the tasks that train a masked transformer: a critic beside it, and a check of its tokenizer."""

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
    """Training of a critic beside a task's transformer (ECHOPulse, Eqs. 9 and 10)."""

    def __init__(self, kind: str, weight: float, transformer: MaskedTransformer, start: Path | None) -> None:
        self.kind, self.weight, self.transformer = kind, weight, transformer
        self.critic = make_critic(kind, transformer)
        if self.critic is not None and start is not None and (start.parent / "critic").is_dir():
            self.critic = load_critic(start.parent / "critic", transformer)

    def networks(self) -> dict[str, nn.Module]:
        """The transformer and, if there is one, the critic."""
        return {"transformer": self.transformer, **({} if self.critic is None else {"critic": self.critic})}

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """Optimizers: a token critic has one of its own, so that the transformer learns as without it."""
        if self.kind == "token":
            return OptimizerGroup("transformer", ("transformer",)), OptimizerGroup("critic", ("critic",), loss="critic")
        return (OptimizerGroup("all", tuple(self.networks())),)

    def add(
        self, losses: dict[str, Tensor], batch: Mapping[str, Tensor], logits: Tensor, condition: Condition
    ) -> dict[str, Tensor]:
        """Add the critic's loss to `losses`, on windows whose hidden tokens are drawn from the transformer's logits."""
        if self.critic is None:
            return losses
        filled = with_guesses(batch["ids"], batch["hidden"], logits)
        scores = self.critic(self.transformer, filled, batch["times_s"], batch["is_first"], condition)
        critic = critic_loss(scores, filled, batch["ids"])
        shared = {"loss": losses["loss"] + self.weight * critic} if self.kind == "self" else {}
        return losses | shared | {"critic": critic}
