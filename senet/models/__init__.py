"""Enhancement systems, one file per family: waveform in, waveform out."""
