"""Plain reading of the SEGAN family, to compare results and speed with.

Each step is written as the description of the networks reads: padding by hand, one stage and one window after the
other, recurrences as loops, the attention matrix whole.
Shapes: B batch, W samples of a window, C channels, T frames of a layer, L frames in attention, N samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)


class PlainSEGAN(nn.Module):
    """Generators of one or more stages; ``attention`` lists encoder convolutions, counted from 0."""

    def __init__(
        self,
        num_stages: int = 1,
        shared: bool = False,
        channels: tuple[int, ...] = CHANNELS,
        attention: tuple[int, ...] = (),
        k_qk: int = 8,
        k_v: int = 2,
        spectral_norm: bool = False,
        window: int = 16384,
    ):
        super().__init__()
        self.num_stages, self.shared, self.window = num_stages, shared, window
        self.generators = nn.ModuleList(
            PlainGenerator(channels, attention, k_qk, k_v, spectral_norm) for _ in range(1 if shared else num_stages)
        )

    def network(self, encoded: Tensor, z: Tensor) -> list[Tensor]:
        """(B, W) encoded, (stages, B, C, T of the code) -> (B, W) of each stage."""
        outputs = []
        for n in range(self.num_stages):
            generator = self.generators[0] if self.shared else self.generators[n]
            encoded = generator(encoded, z[n])
            outputs.append(encoded)
        return outputs

    def forward(self, noisy: Tensor, z: Tensor) -> Tensor:
        """(B, N), z of every window (stages, 1, C, T of the code) -> (B, N)."""
        samples = noisy * 32768  # int16
        x = (2 / 65535) * (samples - 32767) + 1
        emphasised = x.clone()
        emphasised[:, 1:] = x[:, 1:] - 0.95 * x[:, :-1]
        outputs = []
        for start in range(0, noisy.shape[1], self.window):
            window = emphasised[:, start : start + self.window]
            window = F.pad(window, (0, self.window - window.shape[1]))
            outputs.append(self.network(window, z.expand(-1, len(noisy), -1, -1))[-1])
        y = torch.cat(outputs, 1)[:, : noisy.shape[1]]
        state, samples = torch.zeros(len(noisy)), []
        for n in range(y.shape[1]):
            state = y[:, n] + 0.95 * state
            samples.append(state)
        x = torch.stack(samples, 1)
        return ((x - 1) * (65535 / 2) + 32767) / 32768


class PlainGenerator(nn.Module):
    def __init__(self, channels, attention, k_qk, k_v, spectral_norm):
        super().__init__()
        self.layers = len(channels)
        self.encoder, self.encoder_act, self.encoder_attention = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        c_in = 1
        for i, c in enumerate(channels):
            self.encoder.append(PlainConv(c_in, c, spectral_norm))
            self.encoder_act.append(nn.PReLU(c, init=0.0))
            if i in attention:
                self.encoder_attention[str(i)] = PlainAttention(c, k_qk, k_v)
            c_in = c
        self.decoder, self.decoder_act, self.decoder_attention = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        c_in = 2 * channels[-1]  # z and the code
        for j in range(self.layers - 1):
            c = channels[self.layers - 2 - j]
            self.decoder.append(PlainDeconv(c_in, c, spectral_norm))
            self.decoder_act.append(nn.PReLU(c, init=0.0))
            if self.layers - 2 - j in attention:
                self.decoder_attention[str(j)] = PlainAttention(2 * c, k_qk, k_v)
            c_in = 2 * c
        self.output = PlainDeconv(c_in, 1, spectral_norm)

    def forward(self, noisy: Tensor, z: Tensor) -> Tensor:
        x = noisy.unsqueeze(1)  # B, 1, W
        skips = []
        for i in range(self.layers):
            x = self.encoder[i](x)
            if i < self.layers - 1:
                skips.append(x)  # before the PReLU
            x = self.encoder_act[i](x)
            if str(i) in self.encoder_attention:
                x = self.encoder_attention[str(i)](x)
        x = torch.cat([z, x], 1)
        for j in range(self.layers - 1):
            x = self.decoder_act[j](self.decoder[j](x))
            x = torch.cat([x, skips[self.layers - 2 - j]], 1)
            if str(j) in self.decoder_attention:
                x = self.decoder_attention[str(j)](x)
        return torch.tanh(self.output(x)).squeeze(1)


class PlainConv(nn.Module):
    """Kernel 31, stride 2, 14 zeros left and 15 right."""

    def __init__(self, c_in, c_out, spectral_norm):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(c_out, c_in, 31)), nn.Parameter(torch.zeros(c_out))
        self.register_buffer("u", torch.zeros(c_out) if spectral_norm else None)

    def forward(self, x):
        weight = self.weight
        if self.u is not None:
            weight = weight / sigma(weight.permute(2, 1, 0).flatten(0, 1), self.u)  # (31 C_in) x C_out
        return F.conv1d(F.pad(x, (14, 15)), weight, self.bias, stride=2)


class PlainDeconv(nn.Module):
    """Kernel 31, stride 2; of the full output 14 samples are dropped on the left and 15 on the right."""

    def __init__(self, c_in, c_out, spectral_norm):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(c_in, c_out, 31)), nn.Parameter(torch.zeros(c_out))
        self.register_buffer("u", torch.zeros(c_in) if spectral_norm else None)

    def forward(self, x):
        weight = self.weight
        if self.u is not None:
            weight = weight / sigma(weight.permute(2, 1, 0).flatten(0, 1), self.u)  # (31 C_out) x C_in
        return F.conv_transpose1d(x, weight, self.bias, stride=2)[:, :, 14:-15]


def sigma(matrix: Tensor, u: Tensor) -> Tensor:
    """Largest singular value by one power iteration from ``u`` (columns)."""
    v = matrix @ u
    v = v / v.norm()
    u = matrix.T @ v
    u = u / u.norm()
    return v @ matrix @ u


class PlainAttention(nn.Module):
    def __init__(self, c, k_qk, k_v):
        super().__init__()
        self.query, self.key = PlainPointwise(c, c // k_qk), PlainPointwise(c, c // k_qk)
        self.value, self.output = PlainPointwise(c, c // k_v), PlainPointwise(c // k_v, c)
        self.beta = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        query = self.query(x)  # B, C / 8, L
        key = F.max_pool1d(self.key(x), 4, 4)  # B, C / 8, L / 4
        value = F.max_pool1d(self.value(x), 4, 4)  # B, C / 2, L / 4
        outputs = []
        for b in range(len(x)):
            matrix = torch.softmax(query[b].T @ key[b], 1)  # L x L / 4, over the keys
            outputs.append((matrix @ value[b].T).T)
        return x + self.beta * self.output(torch.stack(outputs))


class PlainPointwise(nn.Module):
    """1x1 convolution without bias, spectrally normalised."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, 1))
        self.register_buffer("u", torch.zeros(c_out))

    def forward(self, x):
        return F.conv1d(x, self.weight / sigma(self.weight[:, :, 0].T, self.u))


class PlainDiscriminator(nn.Module):
    """The statistics of virtual batch norm come from a reference batch of pairs that goes through beside the live one.

    Reading ``current_real``: the reference is the present real batch. Reading ``fixed``: one drawn once.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = CHANNELS,
        attention: tuple[int, ...] = (),
        k_qk: int = 8,
        k_v: int = 2,
        spectral_norm: bool = False,
        window: int = 16384,
    ):
        super().__init__()
        self.convs, self.gains, self.shifts = nn.ModuleList(), nn.ParameterList(), nn.ParameterList()
        self.attention = nn.ModuleDict()
        c_in = 2
        for i, c in enumerate(channels):
            self.convs.append(PlainConv(c_in, c, spectral_norm))
            self.gains.append(torch.ones(c))
            self.shifts.append(torch.zeros(c))
            if i in attention:
                self.attention[str(i)] = PlainAttention(c, k_qk, k_v)
            c_in = c
        self.reduce = nn.Conv1d(c_in, 1, 1, bias=False)
        self.score = nn.Linear(window // 2 ** len(channels), 1)

    def forward(self, candidate: Tensor, noisy: Tensor, reference: tuple[Tensor, Tensor]) -> Tensor:
        """(B, W), (B, W), clean and noisy (R, W) -> (B,)."""
        live = torch.stack([candidate, noisy], 1)
        reference = torch.stack(reference, 1)
        for i, conv in enumerate(self.convs):
            live, reference = conv(live), conv(reference)
            mean, moment = reference.mean((0, 2)), reference.square().mean((0, 2))
            share = 1 / (len(live) + 1)
            live_mean = share * live.mean((0, 2)) + (1 - share) * mean
            live_moment = share * live.square().mean((0, 2)) + (1 - share) * moment
            live = self.normalise(i, live, live_mean, live_moment)
            reference = self.normalise(i, reference, mean, moment)
            live, reference = F.leaky_relu(live, 0.3), F.leaky_relu(reference, 0.3)
            if str(i) in self.attention:
                live, reference = self.attention[str(i)](live), self.attention[str(i)](reference)
        return self.score(self.reduce(live).squeeze(1)).squeeze(1)

    def normalise(self, i, x, mean, moment):
        deviation = torch.sqrt(1e-5 + moment - mean**2)
        y = (x - mean[None, :, None]) / deviation[None, :, None]
        return self.gains[i][None, :, None] * y + self.shifts[i][None, :, None]


# ---------------------------------------------------------------- weights


@torch.no_grad()
def load_weights(plain: PlainSEGAN | PlainDiscriminator, model: nn.Module):
    """Copy the weights of senet's ``segan.SEGAN`` or ``segan.Discriminator``, with the state of its spectral norms."""
    given = {}
    for name, value in model.state_dict().items():
        if name == "reference":  # the plain reading takes it as an argument
            continue
        name = name.replace("parametrizations.weight.original", "weight").replace("parametrizations.weight.0.u", "u")
        if ".attention." in f".{name}" or "_attention." in name:
            name = name.replace(".gain", ".beta")
        if name.startswith("norms."):
            _, i, kind = name.split(".")
            name = f"{'gains' if kind == 'weight' else 'shifts'}.{i}"
        given[name] = value
    plain.load_state_dict(given)
