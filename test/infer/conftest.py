"""An experiment with two checkpoints: the best is the first."""

import pytest


@pytest.fixture(scope="session")
def expdir(make_experiment, tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("exp") / "small", 1, 2)
