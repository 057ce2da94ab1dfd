"""The one trainer of every supervised problem: Lightning, with restarts that leave no trace.

A batch, its augmentation and its dropout depend on (seed, step) alone, and a checkpoint holds
weights, optimiser and step. So a run that was killed goes on from its last checkpoint and ends
with the same bytes as a run that was not (on a CPU with the same number of threads).
"""

from __future__ import annotations

import csv
import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, Sampler

from brodmann.core import BrodmannError, ModelError, key_seed
from brodmann.core.files import written_beside
from brodmann.problems.base import Batches, Problem


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn. Defaults are nnU-Net's (specs: regions, part A).

    Attributes
    ----------
    steps : int
        Optimiser steps.
    optimizer : "sgd" or "adamw"
        SGD has Nesterov momentum.
    lr, momentum, weight_decay : float
    decay : "poly" or "cosine"
        How the learning rate falls: as (1 - step / steps) ** poly_power, or along half a cosine
        after the warm-up.
    poly_power : float
    warmup_steps : int
        Steps over which the learning rate first rises, linearly.
    clip_norm : float
        Largest gradient norm.
    ema : float
        Decay of the running mean of the weights that becomes the model; 0 keeps the last.
    precision : str
        "auto" is mixed bfloat16 (or float16 with scaling) on a GPU and float32 on a CPU.
    checkpoint_every, validate_every, validate_batches, log_every : int
        In steps; `validate_every` 0 never validates.
    """

    steps: int = 1000
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-2
    momentum: float = 0.99
    weight_decay: float = 3e-5
    decay: Literal["poly", "cosine"] = "poly"
    poly_power: float = 0.9
    warmup_steps: int = 0
    clip_norm: float = 12.0
    ema: float = 0.0
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"
    checkpoint_every: int = 100
    validate_every: int = 0
    validate_batches: int = 8
    log_every: int = 10

    def lr_at(self, step: int) -> float:
        """Learning rate of one step, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "poly":
            return self.lr * rise * (1 - step / self.steps) ** self.poly_power
        done = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.lr * rise * (1 + math.cos(math.pi * done)) / 2


class Divergence(BrodmannError):
    """The loss is no number any more."""


class Learner(LightningModule):
    """Net + problem + schedule, at a certain step."""

    def __init__(self, net: nn.Module, problem: Problem, schedule: Schedule, seed: int) -> None:
        super().__init__()
        self.net, self.problem, self.schedule, self.seed = net, problem, schedule, seed
        self.first_step = 0
        self.average = (
            torch.optim.swa_utils.AveragedModel(
                net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(schedule.ema)
            )
            if schedule.ema
            else None
        )

    @property
    def step_now(self) -> int:
        """Steps done since the very beginning, restarts counted in."""
        return self.first_step + self.global_step

    @property
    def best_net(self) -> nn.Module:
        """The net to keep: the running mean where there is one."""
        return self.average.module if self.average is not None else self.net

    def configure_optimizers(self) -> torch.optim.Optimizer:
        s = self.schedule
        learned = [values for values in self.net.parameters() if values.requires_grad]
        if s.optimizer == "adamw":
            return torch.optim.AdamW(learned, lr=s.lr, weight_decay=s.weight_decay)
        return torch.optim.SGD(
            learned,
            lr=s.lr,
            momentum=s.momentum,
            weight_decay=s.weight_decay,
            nesterov=s.momentum > 0,
        )

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        step = self.step_now
        torch.manual_seed(key_seed(self.seed, "dropout", step))
        for group in self.optimizers().param_groups:
            group["lr"] = self.schedule.lr_at(step)
        loss = self.problem.step(self.net, batch)["loss"]
        if not torch.isfinite(loss):
            raise Divergence(
                "the loss is not finite",
                f"step {step}",
                float(loss),
                "lower train.lr or use precision 32",
            )
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Here and not at the batch's end: callbacks, which save checkpoints, come before that.
        follow = getattr(self.problem, "after_step", None)
        if follow is not None:
            follow(self.net, self.step_now + 1)
        if self.average is not None:
            self.average.update_parameters(self.net)


class _Steps(Sampler[int]):
    def __init__(self, first: int, last: int) -> None:
        self.range = range(first, last)

    def __iter__(self) -> Any:
        return iter(self.range)

    def __len__(self) -> int:
        return len(self.range)


class _Bookkeeper(Callback):
    """Curve, checkpoints and progress."""

    def __init__(
        self,
        folder: Path,
        validation: Batches | None,
        on_step: Callable[[int, float], None],
        rows: list[dict],
    ) -> None:
        self.folder, self.validation, self.on_step, self.rows = folder, validation, on_step, rows
        self.began = time.monotonic() - (rows[-1]["seconds"] if rows else 0.0)
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        assert isinstance(module, Learner)
        schedule, step = module.schedule, module.step_now
        self.losses.append(float(outputs["loss"]))
        self.on_step(step, self.losses[-1])
        last = step == schedule.steps
        validate = (
            bool(self.validation)
            and schedule.validate_every
            and step % schedule.validate_every == 0
        )
        if step % schedule.log_every == 0 or last or validate:
            row = {
                "step": step,
                "loss": sum(self.losses) / len(self.losses),
                "lr": schedule.lr_at(step - 1),
                "seconds": round(time.monotonic() - self.began, 3),
            }
            if validate:
                row |= self._validate(module)
            self.rows.append(row)
            self.losses.clear()
        if step % schedule.checkpoint_every == 0 or last:
            save_checkpoint(self.folder / "checkpoint.pt", module, trainer, self.rows)
            write_curve(self.folder / "curve.csv", self.rows)

    def _validate(self, module: Learner) -> dict[str, float]:
        net = module.best_net
        was_training = net.training
        net.eval()
        evidence = None
        with torch.inference_mode():
            for i in range(module.schedule.validate_batches):
                batch = {k: v.to(module.device) for k, v in self.validation[i].items()}
                found = module.problem.validate(net, batch)
                evidence = found if evidence is None else evidence + found
        net.train(was_training)
        return module.problem.summarise(evidence)


def save_checkpoint(path: Path, learner: Learner, trainer: Trainer, rows: list[dict]) -> None:
    """Everything a restart needs, as tensors and plain values only."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    state = {
        "step": learner.step_now,
        "net": learner.net.state_dict(),
        "average": learner.average.state_dict() if learner.average is not None else None,
        "optimizer": learner.optimizers().optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "rows": rows,
    }
    with written_beside(path) as beside:
        torch.save(state, beside)


def write_curve(path: Path, rows: Iterable[dict]) -> None:
    """The learning curve as CSV; columns that a row lacks stay empty."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def fit(
    net: nn.Module,
    problem: Problem,
    batches: Batches,
    schedule: Schedule,
    seed: int,
    folder: Path,
    *,
    validation: Batches | None = None,
    workers: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> tuple[nn.Module, list[dict]]:
    """Train a net, or go on training it from the checkpoint in `folder`.

    Parameters
    ----------
    net : nn.Module
        Freshly initialised; a checkpoint replaces its weights.
    problem : Problem
    batches : Batches
        Step -> batch.
    schedule : Schedule
    seed : int
    folder : Path
        Where `checkpoint.pt` and `curve.csv` go.
    validation : Batches, optional
        Batch number -> batch of subjects that are not trained on.
    workers : int
        Processes that make batches; 0 makes them in this one. Changes no byte.
    on_step : callable
        Called with (steps done, loss).

    Returns
    -------
    net : nn.Module
        In evaluation mode, on the CPU.
    rows : list of dict
        The learning curve: step, loss, lr, seconds, and what validation says.

    Raises
    ------
    ModelError
        If the checkpoint belongs to another net.
    Divergence
        If the loss stops being finite.
    """
    learner = Learner(net, problem, schedule, seed)
    on_gpu = torch.cuda.is_available()
    precision = schedule.precision
    if precision == "auto":
        precision = "32"
        if on_gpu:
            precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    checkpoint = folder / "checkpoint.pt"
    state, rows = None, []
    if checkpoint.exists():
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            learner.net.load_state_dict(state["net"])
            if learner.average is not None:
                learner.average.load_state_dict(state["average"])
        except (RuntimeError, KeyError, TypeError, OSError, EOFError, UnpicklingError) as error:
            raise ModelError(
                "this checkpoint does not fit the recipe",
                checkpoint,
                str(error).split("\n")[0],
                "remove it to start anew",
            ) from error
        learner.first_step, rows = state["step"], state["rows"]
    if learner.first_step < schedule.steps:
        _run(learner, batches, folder, validation, workers, on_step, rows, state, precision, on_gpu)
    return learner.best_net.to("cpu").eval(), rows


def _run(
    learner: Learner,
    batches: Batches,
    folder: Path,
    validation: Batches | None,
    workers: int,
    on_step: Callable[[int, float], None],
    rows: list[dict],
    state: dict | None,
    precision: str,
    on_gpu: bool,
) -> None:
    schedule = learner.schedule
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=_Steps(learner.first_step, schedule.steps),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=on_gpu,
        multiprocessing_context="spawn" if workers else None,
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=1,
            precision=precision,
            max_steps=schedule.steps - learner.first_step,
            max_epochs=-1,
            gradient_clip_val=schedule.clip_norm,
            callbacks=[_Restore(state), _Bookkeeper(folder, validation, on_step, rows)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        # Lightning answers Ctrl-C by leaving the process, and leaves it deaf to a second one.
        in_main_thread = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(learner, loader)
        except SystemExit:
            if not trainer.interrupted:
                raise
            raise KeyboardInterrupt from None
        finally:
            if in_main_thread:
                signal.signal(signal.SIGINT, handler)


class _Restore(Callback):
    """Hand the optimiser and the gradient scaler what the checkpoint holds."""

    def __init__(self, state: dict | None) -> None:
        self.state = state

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.state is None:
            return
        trainer.optimizers[0].load_state_dict(self.state["optimizer"])
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self.state["scaler"]:
            scaler.load_state_dict(self.state["scaler"])
        self.state = None
