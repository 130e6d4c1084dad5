"""A causal model on live sound as one pure function, from a hop of samples to a hop of samples, for export.

    enhanced, *state = step(samples, left, *state)

samples (C, hop); left (1,): how many samples of the signal are still to come, these included; as long as nobody knows,
any number above ``hop``. The signal is what ``framing`` says: first padded, then without its first ``rest`` samples,
which are the beginning of the state ``wave``. Output sample n is sample ``delay`` + n of all that comes out; for the
last ones zeros go in, ``left`` counts on below 0.

Shapes: C channels, F bins.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.errors import UserError
from senet.infer.stream import FrameStep, require_streaming


def hop_step(model: nn.Module) -> "SpectralStep | WindowStep":
    """The step of a causal model.

    Raises:
        UserError: the model needs the whole recording, or fades windows into each other.
    """
    require_streaming(model)
    return SpectralStep(model) if hasattr(model, "stft") else WindowStep(model)


class SpectralStep(nn.Module):
    """Of a ``SpectralModel``: a frame's transform, the network, the inverse, overlap and add.

    Of a frame only what the window does not make zero takes part, ``width`` samples.

    Attributes:
        hop: samples. framing: see above: ``least`` samples, whole hops, then ``before`` and ``after`` in the ``mode``
            of numpy.pad. delay: samples.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        stft = model.stft
        self.network, self.model, self.hop, self.width = FrameStep(model), model, stft.hop_length, stft.latency + 1
        self.rest, lead = self.width - self.hop, stft.before - stft.first
        more = stft.num_frames(stft.hop_length) - 2  # frames than whole hops, less one
        self.framing = {
            "least": stft.least,
            "before": lead,
            "after": more * self.hop + self.width - lead,
            "mode": "reflect" if stft.padding == "reflect" else "constant",
        }
        self.delay = lead + self.network.lookahead * self.hop
        self.register_buffer("window", stft.window[stft.first : stft.last + 1].clone(), persistent=False)

    def initial_state(self, channels: int = 1) -> dict[str, Tensor]:
        """Name -> tensor."""
        state = {
            "wave": self.window.new_zeros(channels, self.rest),
            "sums": self.window.new_zeros(channels, self.rest),  # of frames, where others will be added
            "weights": self.window.new_zeros(1, self.rest),  # sums of their squared windows
            "hops": self.window.new_zeros(1),  # so far
        }
        kept = self.network.initial_state(channels)
        return state | {f"network_{k}": value for k, value in enumerate(kept)}

    def forward(
        self, samples: Tensor, left: Tensor, wave: Tensor, sums: Tensor, weights: Tensor, hops: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """(C, hop), (1,), state -> (C, hop), state."""
        stft, ahead = self.model.stft, self.network.lookahead
        live = (left > 0).to(samples.dtype)
        wave = torch.cat([wave, samples], 1) * live  # zeros after the last frame
        if self.network.live is not None:
            state = (*state[: self.network.live], live, *state[self.network.live + 1 :])
        frame = F.pad(wave * self.window, (stft.first, stft.n_fft - 1 - stft.last))
        spec, *state = self.network(torch.view_as_real(torch.fft.rfft(frame)), *state)
        frame = torch.fft.irfft(torch.view_as_complex(spec), stft.n_fft, dim=1)[:, stft.first : stft.last + 1]
        use = ((hops >= ahead) & (left > -ahead * self.hop)).to(samples.dtype)  # a frame of the signal
        sums = F.pad(sums, (0, self.hop)) + use * self.window * frame
        weights = F.pad(weights, (0, self.hop)) + use * self.window.square()
        settled = self.model.limit(sums[:, : self.hop] / weights[:, : self.hop].clamp_min(1e-11))
        return settled, wave[:, self.hop :], sums[:, self.hop :], weights[:, self.hop :], hops + 1, *state


class WindowStep(nn.Module):
    """Of a model that works window by window, such as SEGAN; a hop is a window. Attributes as ``SpectralStep``."""

    def __init__(self, model: nn.Module):
        super().__init__()
        if model.overlap != "none":
            raise UserError(
                f"{type(model).__name__} with overlap: {model.overlap} is exported for whole recordings only; "
                "overlap: none can be exported for streams, too"
            )
        self.model, self.hop, self.rest, self.delay = model, model.window, 0, 0
        self.framing = {"least": 1, "before": 0, "after": 0, "mode": "constant"}

    def initial_state(self, channels: int = 1) -> dict[str, Tensor]:
        """Name -> tensor: the last sample in and out; before the first, what is encoded as 0."""
        like = next(self.model.parameters())
        empty = self.model.decode(like.new_zeros(channels, 1))
        return {"before": empty, "after": empty.clone()}

    def forward(self, samples: Tensor, left: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, ...]:
        """(C, hop), (1,), state -> (C, hop), state."""
        encoded = self.model.encode(torch.cat([before, samples], 1))[:, 1:]
        encoded = encoded * (torch.arange(self.hop, device=samples.device) < left)
        encoded = torch.cat([self.model.encode(after), self.model.network(encoded)[-1]], 1)
        enhanced = self.model.decode(encoded)[:, 1:]
        return enhanced, samples[:, -1:], enhanced[:, -1:]
