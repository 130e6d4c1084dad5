"""Adversarial training: a discriminator learns to tell enhanced from clean speech, the model to be taken for clean.

Least-squares GAN with a reconstruction term, as the SEGAN family is trained. With x clean, y noisy, x_1 ... x_N the
estimates of the model's N stages, D the discriminator's score and means over the batch:

    L_D = mean (D(x, y) - 1)^2 + 1/N sum_n mean D(x_n, y)^2
    L_G = 1/N sum_n mean (D(x_n, y) - 1)^2 + loss(x_1 ... x_N, x)

``loss`` is the configured one, such as ``waveform.L1``, one per stage by ``stages.Stages``. One D judges all stages,
always beside y. All signals are encoded ones (amplitude map, pre-emphasis: ``model.encode``), cut to windows by
``crop_seconds`` and ``crop_hop_seconds``. Each update draws its own z; gradients pass through all stages.

Beside what ``senet.models.base`` asks for, the model has
    encode(wave (B, N)) -> (B, N); network(encoded (B, W)) -> list of (B, W), one per stage; num_stages.
The discriminator, a class of ``senet.models``, has
    window: W, the samples that it takes;
    judge(candidates: list of (B, W), noisy (B, W), reference=None) -> list of (B,): a score of each candidate, given
    noisy. ``reference`` is a pair of clean and noisy windows for the statistics of virtual batch norm; without it the
    first candidate is clean, and with noisy the reference. What it keeps from batch to batch is in its state dict.
Processes and micro-batches take statistics (of batch norm, virtual or not) over their own share of a batch, as the
published code does on several GPUs. A bias before such a norm, which the published discriminators have, moves nothing:
its gradient is 0 but for rounding, which Adam scales up to whole steps. So these parameters differ from one number of
processes to another, and what the discriminator computes does not. Nothing else passes from batch to batch but what
``state_dict`` holds.

Sources: S. Pascual et al., "SEGAN", Interspeech 2017; H. Phan et al., "Improving GANs for speech enhancement", IEEE SPL
2020; the code of both.
"""

import contextlib
import logging

import torch

from senet import checkpoint, config
from senet.errors import UserError, require_choice
from senet.losses.waveform import L1
from senet.train.ema import Weights
from senet.train.faster import prepared
from senet.train.log import Mean
from senet.train.supervised import require_references
from senet.train.updater import Updater, rows_of

log = logging.getLogger(__name__)

ORDERS = ("d_first", "g_first")
LEAST_NOISE = 0.01  # standard deviation below which the published code switches the discriminator's noise off
# The discriminator has won when the model's adversarial loss (1: each enhanced window is scored 0) is above the first
# and the discriminator's own (without ``gan_half``) below the second, in the mean of an epoch.
WON = 0.9, 0.1


class Adversarial:
    """Each step updates the discriminator once and the model once.

    Args:
        model: see above; on its device.
        loss: reconstruction term, of domain "waveform".
        discriminator, discriminator_conf: class under senet.models and its arguments.
        discriminator_optim_conf: what is different from ``optim_conf`` for the discriminator.
        order: ``d_first`` (published) or ``g_first``.
        batches: 2: the discriminator and the model learn from different batches of ``batch_size``, as published; 1:
            from the same one. An epoch shows all data once to each network either way: with 2 it goes twice through
            them, in independent orders.
        gan_half: 1/2 before every square of D, as the SEGAN paper writes [recalled]; the codes have none.
        noise_std: of Gaussian noise added to all that the discriminator sees; the published scripts have 0.
        noise_decay, noise_decay_epoch: the noise shrinks by this factor, at most 1, after each epoch from this one on,
            until it is below 0.01, where it ends.
        l1_remove_epoch: the reconstruction term is left out after so many epochs; None: never.
        ema_decay: of the exponential moving average of the model's weights, which is evaluated and kept; 0: none.
        precision, compile, checkpointing: how the networks are run in training; see ``senet.train.faster``.
        update: optimiser, schedule, warm-up, clipping, micro-batches and processes, of both networks alike; see
            ``Updater``.

    Evaluation takes the mean absolute difference between the last stage and the clean signal over whole utterances,
    encoded as in training: after de-emphasis the lowest frequencies would decide, of which training sees little. Scores
    of the discriminator cannot be compared across epochs.
    """

    def __init__(
        self,
        model,
        loss,
        *,
        discriminator: str = "segan.Discriminator",
        discriminator_conf: dict | None = None,
        discriminator_optim_conf: dict | None = None,
        order: str = "d_first",
        batches: int = 2,
        gan_half: bool = False,
        noise_std: float = 0.0,
        noise_decay: float = 0.7,
        noise_decay_epoch: int = 5,
        l1_remove_epoch: int | None = None,
        ema_decay=0.0,
        precision="fp32",
        compile=False,
        checkpointing=False,
        **update,
    ):
        _check(model, loss)
        _check_options(order, batches, noise_std, noise_decay, l1_remove_epoch)
        self.model, self.loss, self.passes = model, loss, batches
        self.order, self.factor = order, 0.5 if gan_half else 1.0
        self.noise_std, self.noise_decay, self.noise_decay_epoch = noise_std, noise_decay, noise_decay_epoch
        self.l1_remove_epoch = l1_remove_epoch
        self.discriminator = _discriminator(discriminator, discriminator_conf).to(next(model.parameters()).device)
        self.weights = Weights(model, ema_decay)
        update |= {"networks": self.networks, "precision": precision}
        self.updater = Updater(model.parameters(), **update)
        update["optim_conf"] = (update.get("optim_conf") or {}) | (discriminator_optim_conf or {})
        update["option"] = "objective_conf.discriminator_optim"
        self.discriminator_updater = Updater(self.discriminator.parameters(), **update)
        self.run = prepared(model, "network", precision, compile, checkpointing)
        self.judge = prepared(self.discriminator, "judge", precision, compile, checkpointing)
        self.measure = L1()
        self.epochs = 0  # completed
        self.contest = Mean()  # adversarial losses of both networks in this epoch

    @property
    def lr(self):
        return self.updater.lr

    @property
    def updaters(self):
        return [self.updater, self.discriminator_updater]

    @property
    def networks(self):
        return [self.model, self.discriminator]

    def step(self, batch):
        if batch["ids"]:
            require_references(self.loss, batch)
        self.model.train()
        self.discriminator.train()
        for_discriminator, for_model = self._shares(batch)
        if self.order == "d_first":
            values = self._teach_discriminator(for_discriminator) | self._teach_model(for_model)
        else:
            values = self._teach_model(for_model) | self._teach_discriminator(for_discriminator)
        self.contest.add({name: values[name] for name in ("adversarial", "d_loss") if name in values})
        return values

    @torch.no_grad()
    def evaluate(self, batch):
        model = self.weights.evaluated.eval()
        estimate, clean = (model.encode(wave) for wave in (model(batch["noisy"]), batch["clean"]))
        loss, parts = self.measure([estimate], {"clean": clean}, batch["lengths"])
        return {"loss": loss, **parts}, len(batch["ids"])

    def end_epoch(self, valid):
        self.updater.end_epoch(valid["loss"])
        self.discriminator_updater.end_epoch(valid["loss"])
        self.epochs += 1
        self._warn_if_won(**self.contest.values())
        self.contest = Mean()

    def state_dict(self):
        return {
            **self.weights.state_dict(),
            **self.updater.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_updater": self.discriminator_updater.state_dict(),
            "epochs": self.epochs,
            "contest": self.contest.state_dict(),
        }

    def load_state_dict(self, state):
        self.weights.load_state_dict(state)
        self.updater.load_state_dict(state)
        try:
            self.discriminator.load_state_dict(state["discriminator"])
        except RuntimeError:  # dumps all names; what may have any size has the checkpoint's by now
            checkpoint.require_fit(self.discriminator.state_dict(), state["discriminator"], "discriminator")
            raise
        self.discriminator_updater.load_state_dict(state["discriminator_updater"])
        self.epochs, self.contest = state["epochs"], Mean(**state["contest"])

    @torch.no_grad()
    def _shares(self, batch):
        """What the discriminator and what the model learns from: batches of noisy and references, encoded."""
        rows = len(batch["ids"])
        size = rows // self.passes
        encoded = {name: self.model.encode(batch[name]) for name in {"noisy", "clean", *self.loss.needs} if rows}
        encoded = batch | encoded
        return rows_of(encoded, slice(0, size)), rows_of(encoded, slice(rows - size, rows))  # the same of one pass

    def _teach_discriminator(self, batch):
        def compute(part):
            with torch.no_grad():
                estimates = self.run(part["noisy"])
            real, *fake = self._judge([part["clean"], *estimates], part["noisy"])
            fake = torch.stack(fake)  # stages, B
            loss = self.factor * ((real - 1).square().mean() + fake.square().mean())
            return loss, {"d_real": real.mean(), "d_fake": fake.mean()}

        values = self.discriminator_updater.step(compute, batch, of="discriminator's ")
        return {name if name.startswith("d_") else f"d_{name}": value for name, value in values.items()}

    def _teach_model(self, batch):
        def compute(part):
            estimates = self.run(part["noisy"])
            with _frozen(self.discriminator):
                fake = torch.stack(self._judge(estimates, part["noisy"], part["clean"]))  # stages, B
            adversarial = (fake - 1).square().mean()
            reconstruction, parts = self.loss(estimates, {n: part[n] for n in self.loss.needs}, part["lengths"])
            loss = self.factor * adversarial
            if self.l1_remove_epoch is None or self.epochs < self.l1_remove_epoch:
                loss = loss + reconstruction
            return loss, {"adversarial": adversarial, "reconstruction": reconstruction, **parts}

        values = self.updater.step(compute, batch)
        self.weights.update()
        return values

    def _judge(self, candidates, noisy, clean=None):
        """Scores of candidates (B, W), by the statistics of clean and noisy if the first of them is not clean."""
        window = self.discriminator.window
        if noisy.shape[1] != window:
            raise UserError(
                f"the discriminator takes windows of {window} samples, and the batch has {noisy.shape[1]}: set "
                f"crop_seconds: {window / self.model.sample_rate:g} and crop_hop_seconds, or "
                "objective_conf.discriminator_conf.window"
            )
        std = self._noise()
        if std:
            candidates = [_noised(candidate, std) for candidate in candidates]
            noisy, clean = _noised(noisy, std), None if clean is None else _noised(clean, std)
        return self.judge(candidates, noisy, None if clean is None else (clean, noisy))

    def _warn_if_won(self, adversarial=0.0, d_loss=0.0):
        """After an epoch with these means."""
        if adversarial > WON[0] and d_loss < self.factor * WON[1]:
            log.warning(
                "epoch %d: the discriminator wins: the model's adversarial loss was %.2f in the mean (1: no enhanced "
                "window passes for clean), its own %.3f, so the model learns by the reconstruction term alone. Try "
                "objective_conf.noise_std, or a lower lr in objective_conf.discriminator_optim_conf",
                self.epochs, adversarial, d_loss,
            )  # fmt: skip

    def _noise(self):
        """Standard deviation of the discriminator's noise in this epoch."""
        std = self.noise_std * self.noise_decay ** max(0, self.epochs + 1 - self.noise_decay_epoch)
        return std if std >= LEAST_NOISE else 0.0


def _noised(wave, std):
    return wave + std * torch.randn_like(wave)


@contextlib.contextmanager
def _frozen(network):
    """What is computed inside has no gradient to the network's parameters, and keeps nothing in memory for one."""
    learning = [p for p in network.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _discriminator(dotted, conf):
    option = "objective_conf.discriminator"
    network = config.build("models", dotted, conf, option=option)
    if not hasattr(network, "judge") or not hasattr(network, "window"):
        raise UserError(f"{option}: {dotted} has no judge() and window, expected a discriminator: segan.Discriminator")
    return network


def _check(model, loss):
    if not hasattr(model, "encode") or not hasattr(model, "network") or hasattr(model, "analysis"):
        raise UserError(
            f"objective: adversarial training needs a model with encode() and network() of waveforms, such as "
            f"segan.SEGAN; {type(model).__name__} is not one"
        )
    if loss.domain != "waveform":
        raise UserError(
            f"loss: {type(loss).__name__} compares spectra; adversarial training takes a loss of waveforms, "
            "such as waveform.L1"
        )
    if hasattr(loss, "require_stages"):
        loss.require_stages(model.num_stages)


def _check_options(order, batches, noise_std, noise_decay, l1_remove_epoch):
    require_choice("objective_conf.order", order, ORDERS)
    if batches not in (1, 2):
        raise UserError(f"objective_conf.batches is {batches}, expected 1 or 2")
    if not noise_std >= 0:
        raise UserError(f"objective_conf.noise_std is {noise_std:g}, expected at least 0")
    if not 0 < noise_decay <= 1:
        raise UserError(f"objective_conf.noise_decay is {noise_decay:g}, expected more than 0, at most 1")
    if l1_remove_epoch is not None and l1_remove_epoch < 0:
        raise UserError(f"objective_conf.l1_remove_epoch is {l1_remove_epoch}, expected at least 0, or null")
