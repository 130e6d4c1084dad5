"""What the tests of the job runners share."""

import subprocess

import pytest


@pytest.fixture
def runner_of():
    """Makes a runner of ``prepare(*words, **how)``, the arguments of Popen for a command line.

    ``runner(*words, code=0, **how)`` runs it and returns what it said; ``runner.start`` only starts it.
    """

    def make(prepare):
        def start(*words, **how):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            return subprocess.Popen(**pipes, **prepare(*words, **how))

        def run(*words, code=0, **how):
            process = start(*words, **how)
            out, err = process.communicate(timeout=60)
            assert process.returncode == code, out + err
            return out + err

        run.start = start
        return run

    return make
