"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data():
    """Folder of real recordings for development; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SENET_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (set SENET_REAL_DATA)")
    return folder
