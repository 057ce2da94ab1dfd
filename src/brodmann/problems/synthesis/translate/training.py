"""Training of generator against critic, with restarts that leave no trace."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from brodmann.core import ModelError, key_seed
from brodmann.core.files import written_beside
from brodmann.nets.translation import Generator, PatchCritic
from brodmann.problems.learner import Divergence, write_curve
from brodmann.problems.synthesis.translate.losses import critic_loss, generator_losses, translated

if TYPE_CHECKING:
    from brodmann.problems.synthesis.translate.method import Translate
    from brodmann.problems.synthesis.translate.pool import Batches

CHECKPOINT_EVERY = 100
CHECKPOINT = "checkpoint.pt"
BETAS = (0.5, 0.99)
AVERAGE = 0.995
"""Decay of the running mean of the generator's weights, which is what is kept."""
STEADY = 0.5
"""Share of the steps at full learning rate; it then falls linearly to zero."""


def build(method: Translate, domains: int, ndim: int, seed: int) -> tuple[Generator, PatchCritic]:
    """Fresh nets whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_seed(seed, "translate"))
        generator = Generator(
            domains,
            ndim,
            features=method.features,
            content=method.content_size,
            style=method.style_size,
            blocks=method.blocks,
        )
        return generator, PatchCritic(domains, ndim, features=method.features)


def lr_at(step: int, steps: int, lr: float) -> float:
    """Learning rate of one step, counted from 0.

    >>> [lr_at(step, 4, 1.0) for step in range(4)]
    [1.0, 1.0, 1.0, 0.5]
    """
    return lr * min(1.0, (1 - step / steps) / (1 - STEADY))


class Trainer:
    """Both nets, their optimisers and the running mean, at a certain step."""

    def __init__(
        self, method: Translate, domains: int, ndim: int, seed: int, device: torch.device
    ) -> None:
        self.method, self.device, self.step = method, device, 0
        generator, critic = build(method, domains, ndim, seed)
        self.average = copy.deepcopy(generator).to(device).requires_grad_(False)
        self.generator, self.critic = generator.to(device), critic.to(device)
        self.optimizers = [
            torch.optim.Adam(net.parameters(), method.lr, BETAS)
            for net in (self.generator, self.critic)
        ]
        self.rows: list[dict[str, Any]] = []

    def advance(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """One step of the critic, then one of the generator; losses by name."""
        method = self.method
        batch = {key: value.to(self.device) for key, value in batch.items()}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(self.step, method.steps, method.lr)
        half = torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda")
        with half:
            made = translated(self.generator, batch)
            loss = critic_loss(self.critic, made, batch)
        self._descend(1, loss)
        self.critic.requires_grad_(False)
        with half:
            losses = generator_losses(self.generator, self.critic, made, batch)
        total = sum(method.weight(name) * value for name, value in losses.items())
        self._descend(0, total)
        self.critic.requires_grad_(True)
        self.step += 1
        self._follow()
        losses["critic"] = loss
        return {name: float(value.detach()) for name, value in losses.items()}

    def _descend(self, which: int, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            raise Divergence(
                "the loss of the translation is not finite",
                f"step {self.step}",
                float(loss),
                "lower the option lr",
            )
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(AVERAGE, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.average.parameters(), self.generator.parameters()):
            mean.lerp_(now, 1 - decay)

    def _nets(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic, "average": self.average}

    def save(self, path: Path) -> None:
        """Everything a restart needs, as tensors and plain values only."""
        state = {name: net.state_dict() for name, net in self._nets().items()} | {
            "step": self.step,
            "rows": self.rows,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with written_beside(path) as beside:
            torch.save(state, beside)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            for name, net in self._nets().items():
                net.load_state_dict(state[name])
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            self.step, self.rows = state["step"], state["rows"]
        except (RuntimeError, KeyError, TypeError, OSError, EOFError, UnpicklingError) as error:
            raise ModelError(
                "this checkpoint of a translation cannot be read",
                path,
                str(error).split("\n")[0],
                "remove it to start anew",
            ) from error


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: these convolutions are too small to share, and bytes stay the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    method: Translate,
    batches: Batches,
    domains: int,
    ndim: int,
    seed: int,
    folder: Path,
    report: Callable[[int, int, str], None],
) -> Generator:
    """Train a generator, or go on from the checkpoint in `folder`.

    Parameters
    ----------
    method : Translate
        Its options.
    batches : Batches
        Step -> batch.
    domains, ndim, seed : int
    folder : Path
        Where `checkpoint.pt` and `curve.csv` go.
    report : callable
        Called as (steps done, steps, note) after each step.

    Returns
    -------
    Generator
        The running mean over steps, in evaluation mode, on the CPU.

    Raises
    ------
    ModelError
        If the checkpoint is damaged.
    Divergence
        If a loss stops being finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(method, domains, ndim, seed, device)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        trainer.restore(checkpoint)
    began = time.monotonic() - (trainer.rows[-1]["seconds"] if trainer.rows else 0.0)
    recent: list[dict[str, float]] = []
    while trainer.step < method.steps:
        with one_thread() if device.type == "cpu" else nullcontext():
            recent.append(trainer.advance(batches[trainer.step]))
        if trainer.step % CHECKPOINT_EVERY == 0 or trainer.step == method.steps:
            means = {k: sum(row[k] for row in recent) / len(recent) for k in recent[0]}
            seconds = round(time.monotonic() - began, 3)
            trainer.rows.append({"step": trainer.step, **means, "seconds": seconds})
            recent.clear()
            trainer.save(checkpoint)
            write_curve(folder / "curve.csv", trainer.rows)
        note = f"reconstruction {recent[-1]['reconstruction']:.3f}" if recent else ""
        report(trainer.step, method.steps, note)
    return trainer.average.to("cpu").eval()
