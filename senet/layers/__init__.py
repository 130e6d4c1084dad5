"""Network blocks that two or more families of models share; maps are (B, C, T, F): channels, time, frequency."""
