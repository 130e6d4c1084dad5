import numpy as np
import pytest
import soundfile
import torch
from scipy.special import exp1

from senet.errors import UserError
from senet.metrics.base import compute
from senet.models.classical import (
    LogMMSE,
    MinimumStatistics,
    _m,
    exponential_integral,
    log_amplitude_gain,
    log_mmse_gain,
)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def syllables(seconds, level=0.1):
    """Harmonics of a gliding pitch, pauses between syllables and before the first: (1, N), and where it is silent."""
    time = torch.arange(int(16000 * seconds)) / 16000
    envelope = (-torch.sin(2 * torch.pi * 1.5 * time)).clamp_min(0)
    phase = torch.cumsum(2 * torch.pi * (130 + 20 * torch.sin(3 * time)) / 16000, 0)
    wave = envelope * sum(torch.sin(k * phase) / k for k in range(1, 30))
    return level * wave[None] / wave.std(), envelope == 0


def decibels(power):
    return 10 * torch.log10(power)


# ---------------------------------------------------------------- formulas


def test_exponential_integral_is_that_of_scipy():
    x = np.logspace(-12, 1.5, 5000)
    assert np.abs(exponential_integral(torch.from_numpy(x)).numpy() - exp1(x)).max() < 3e-7
    single = exponential_integral(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(np.exp(single / 2), np.exp(exp1(x) / 2), rtol=2e-6)
    assert exponential_integral(torch.tensor([0.0, 1e9])).isfinite().all()


def test_gain_is_the_published_formula():
    prior, posterior = np.meshgrid(np.logspace(-3, 3, 50), np.logspace(-3, 3, 50))
    v = prior / (1 + prior) * posterior
    expected = prior / (1 + prior) * np.exp(exp1(v) / 2)
    gain = log_amplitude_gain(torch.from_numpy(prior), torch.from_numpy(posterior))
    np.testing.assert_allclose(gain.numpy(), expected, rtol=1e-6)


def test_gain_becomes_wieners_where_the_signal_is_strong():
    prior = torch.tensor([0.1, 1.0, 10.0])
    torch.testing.assert_close(log_amplitude_gain(prior, torch.full((3,), 1e4)), prior / (1 + prior))


def test_decision_directed_recursion_written_out():
    power = noise(1, 5, 60).square() * torch.linspace(1, 100, 60)
    tracker = MinimumStatistics(power[:, :, 0], 0.008)
    before, gains = 1.0, []
    for t in range(60):
        posterior = (power[:, :, t] / tracker.update(power[:, :, t])).numpy().astype(float)
        prior = np.maximum(0.98 * before + 0.02 * np.maximum(posterior - 1, 0), 10**-2.5)
        wiener = prior / (1 + prior)
        gains.append(wiener * np.exp(exp1(wiener * posterior) / 2))
        before = gains[-1] ** 2 * posterior
    result = log_mmse_gain(power, 0.008, 0.98, 10**-2.5)
    np.testing.assert_allclose(result.numpy(), np.stack(gains, 2), rtol=1e-4)


@pytest.mark.parametrize("frames, m", [(1, 0), (8, 0.58), (96, 0.877), (160, 0.91), (192, 0.923)])
def test_bias_constants_are_those_of_the_table(frames, m):
    assert abs(_m(frames) - m) < 2e-3


# ---------------------------------------------------------------- noise power


def tracked(power):
    """(B, F, T) power -> noise power of every frame."""
    tracker = MinimumStatistics(power[:, :, 0], 0.008)
    return torch.stack([tracker.update(frame) for frame in power.unbind(2)], 2)


def test_power_of_stationary_noise_is_found_without_bias():
    model = LogMMSE()
    power = model.analysis(noise(2, 64000)).abs().square()[:, 2:-2]
    error = tracked(power) / power.mean((0, 2), keepdim=True)
    assert abs(decibels(error[:, :, 250:].mean())) < 0.3
    assert decibels(error[:, :, 250:]).std() < 1
    assert abs(decibels(error[:, :, 10:200].mean())) < 0.5 and decibels(error[:, :, 10:200]).std() < 1.5


def test_noise_power_follows_a_step_of_10_db_within_two_seconds_up_and_at_once_down():
    wave = noise(1, 9 * 16000)
    wave[:, 3 * 16000 : 6 * 16000] *= 10**0.5
    power = LogMMSE().analysis(wave).abs().square()[:, 2:-2]
    estimate = decibels(tracked(power).mean((0, 1)))
    at = {second: estimate[int(second * 125)] - estimate[int(2.9 * 125)] for second in (3.5, 5, 5.9, 6.5)}
    assert at[3.5] < 4 and abs(at[5] - 10) < 1.5 and abs(at[5.9] - 10) < 0.7 and at[6.5] < 0.7


def test_speech_is_not_taken_for_noise():
    speech, _ = syllables(6)
    background = noise(1, 6 * 16000) * 0.1
    model = LogMMSE()
    powers = [model.analysis(x).abs().square()[:, 2:-2, 250:-250] for x in (speech + background, background, speech)]
    estimate = tracked(model.analysis(speech + background).abs().square())[:, 2:-2, 250:-250]
    assert decibels(powers[2].mean() / powers[1].mean()) > 15
    assert abs(decibels(estimate.mean() / powers[1].mean())) < 2


# ---------------------------------------------------------------- signals


def test_pauses_become_quieter_by_more_than_10_db_and_speech_stays():
    speech, pause = syllables(5)
    background = noise(1, 5 * 16000) * 0.1
    with torch.no_grad():
        enhanced = LogMMSE()(speech + background)
    assert decibels(enhanced[:, pause].square().mean() / background[:, pause].square().mean()) < -15
    si_sdr = [compute("si_sdr", x[0].numpy(), speech[0].numpy(), 16000)[0] for x in (speech + background, enhanced)]
    assert si_sdr[1] > si_sdr[0] + 3


def test_clean_speech_hardly_changes():
    speech, _ = syllables(5)
    wave = speech + noise(1, 5 * 16000) * 1e-3  # 60 dB
    with torch.no_grad():
        assert compute("si_sdr", LogMMSE()(wave)[0].numpy(), speech[0].numpy(), 16000)[0] > 30


def test_real_recordings_improve(real_data):
    folder = real_data / "VoiceBank-DEMAND"
    scores = []
    for path in sorted(folder.glob("clean_testset_wav/*.wav"))[::4]:
        clean, rate = soundfile.read(path, dtype="float32")
        noisy, _ = soundfile.read(folder / "noisy_testset_wav" / path.name, dtype="float32")
        enhanced = LogMMSE()(torch.from_numpy(noisy)[None])[0].numpy()
        scores.append([compute(f"{name}i", enhanced, clean, rate, noisy)[0] for name in ("pesq_wb", "si_sdr")])
    pesq, si_sdr = np.mean(scores, 0)
    assert len(scores) == 8 and pesq > 0.15 and si_sdr > 3


# ---------------------------------------------------------------- the contract of models


@pytest.mark.parametrize("length", [1, 7, 128, 255, 257, 4001])
def test_any_length_is_kept(length):
    x = noise(2, length)
    assert LogMMSE()(x).shape == x.shape and torch.isfinite(LogMMSE()(x)).all()


def test_nothing_is_learnt_and_nothing_is_saved():
    assert not list(LogMMSE().parameters()) and not LogMMSE().state_dict()


def test_silence_stays_silence_with_finite_gradients():
    x = torch.zeros(1, 16000, requires_grad=True)
    y = LogMMSE()(x)
    y.square().sum().backward()
    assert y.abs().max() == 0 and torch.isfinite(x.grad).all()


def test_the_level_of_a_recording_does_not_matter():
    x = noise(1, 32000) + syllables(2)[0]
    torch.testing.assert_close(LogMMSE()(8 * x), 8 * LogMMSE()(x), atol=1e-3, rtol=0)


def test_an_utterance_alone_equals_the_same_in_a_batch():
    x = noise(3, 20001) + syllables(2)[0][:, :20001]
    torch.testing.assert_close(LogMMSE()(x)[1:2], LogMMSE()(x[1:2]), atol=1e-6, rtol=0)


def test_gains_of_the_first_frames_do_not_depend_on_how_many_follow():
    power = noise(2, 257, 300).square()
    whole = log_mmse_gain(power, 0.008, 0.98, 0.003)
    for frames in (1, 30, 299):
        assert torch.equal(log_mmse_gain(power[:, :, :frames], 0.008, 0.98, 0.003), whole[:, :, :frames])


def test_latency_is_kept_and_tight():
    model = LogMMSE().double()
    n, x = 128 * 70 + 255, noise(1, 16000).double()
    changed = x.clone()
    changed[:, n:] = 30 * noise(1, 16000 - n, seed=1)
    first = (model(x) - model(changed))[0].abs().nonzero()[0].item()
    assert model.latency == 510 and n - 510 == first


def test_compiled_exported_and_autocast_models_give_the_same():
    model, x = LogMMSE().eval(), noise(2, 4000)
    expected = model(x)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), expected)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    "conf, message", [({"smoothing": 1.0}, "smoothing is 1.0"), ({"hop_length": 300}, "hop_length")]
)
def test_values_that_do_not_fit_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        LogMMSE(**conf)
