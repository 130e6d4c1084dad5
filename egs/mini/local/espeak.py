"""espeak-ng through ctypes: text in, samples out. Library and voices come in the pip package espeakng-loader."""

import ctypes

import numpy as np

SYNCHRONOUS = 2  # samples go to the callback while espeak_Synth runs, not to a sound card
UTF8 = 1
RATE, PITCH, RANGE = 1, 3, 4  # parameter numbers of espeak_SetParameter

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """One synthesiser; the library allows one in each process.

    Attributes:
        sample_rate: Hz of what ``say`` returns.
    """

    def __init__(self):
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate = self._lib.espeak_Initialize(SYNCHRONOUS, 200, espeakng_loader.get_data_path().encode(), 0)
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng does not start: its voices are missing or of another version")
        self._pieces = []
        self._callback = CALLBACK(self._receive)  # kept here, or it would be collected while C still calls it
        self._lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, _events):
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def voice(self, name, *, pitch=50, pitch_range=50, words_per_minute=175):
        """Choose a voice such as ``en-us+m3`` (language + variant), and how it speaks (pitch and range: 0..99)."""
        if self._lib.espeak_SetVoiceByName(name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice '{name}'")
        for parameter, value in ((RATE, words_per_minute), (PITCH, pitch), (RANGE, pitch_range)):
            self._lib.espeak_SetParameter(parameter, int(value), 0)

    def say(self, text):
        """Speak ``text``: int16, shape (samples,)."""
        data = text.encode()
        self._pieces = []
        status = self._lib.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, UTF8, None, None)
        if status != 0 or not self._pieces:
            raise RuntimeError(f"espeak-ng could not speak (status {status}): {text}")
        return np.concatenate(self._pieces)
