"""Manifests, audio files, mixing, data sets and batches."""
