"""utils/queue.py without a GridEngine: what it would call, and how it reads qstat. The real one is in test/cluster."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

QUEUE = Path(__file__).resolve().parents[2] / "utils" / "queue.py"
QSTAT = """#!/bin/sh
case $1 in
  -u) cat << END
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
      6 0.50000 other      me           r     11/21/2026 16:25:01 all.q@node                         1
      7 0.50000 x          me           $STATE    11/21/2026 16:25:01                                    1 2
END
;;
  *) echo "error reason    2:      can't open output file"; echo "scheduling info: no slots" ;;
esac
"""
QSUB = '#!/bin/sh\necho "$@" >> calls\necho 7.1-2:1\necho \'{"code": 0, "signal": 0}\' > q/x.1.status\n'


def run(*words, folder, state="qw", stop_after=None):
    process = subprocess.Popen(
        [sys.executable, QUEUE, *words],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "STATE": state},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if stop_after:
        time.sleep(stop_after)
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


@pytest.fixture
def fake(tmp_path):
    """Folder of a qsub after which the first task ends well and the second one is in the state $STATE."""
    for name, text in (("qstat", QSTAT), ("qsub", QSUB), ("qdel", "#!/bin/sh\necho qdel $* >> calls\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_dry_run_shows_qsubs_options_by_the_built_in_lines(tmp_path):
    words = [
        "--mem",
        "4G",
        "--num-threads",
        "2",
        "--gpu",
        "1",
        "--time",
        "1:00:00",
        "-l",
        "arch=x",
        "--max-jobs-run",
        "3",
    ]
    code, said = run("--dry-run", *words, "JOB=1:9", "log/1st.JOB.log", "true", folder=tmp_path)
    assert code == 0
    assert said.startswith("qsub -V -w e -l mem_free=4G -pe smp 2 -l gpu=1 -l h_rt=1:00:00 -terse -cwd ")
    assert " -o q/1st.log -N _1st -t 1-9 -tc 3 -l arch=x q/1st.sh\n" in said
    assert "index=$SGE_TASK_ID\n" in said and "exit 99" in said
    assert not os.listdir(tmp_path)


def test_a_task_in_the_error_state_ends_the_wait_with_gridengines_reason(fake):
    code, said = run("JOB=1:2", "x.JOB.log", "true", folder=fake, state="Eqw")
    assert code == 1
    assert (
        "job 7 would wait for ever, and was cancelled: error\n  error reason    2:      can't open output file" in said
    )
    assert "qdel 7" in (fake / "calls").read_text()


def test_a_waiting_task_is_waited_for_until_interrupted(fake):
    (fake / "qdel").write_text("#!/bin/sh\necho qdel $* >> calls\nprintf '#!/bin/sh\\n' > qstat\n")
    code, said = run("JOB=1:2", "x.JOB.log", "true", folder=fake, stop_after=3)
    assert code == 143 and "job 7 was cancelled" in said
    assert (fake / "calls").read_text().splitlines()[-1] == "qdel 7"


def test_it_does_not_stand_in_the_way_of_the_standard_librarys_queue():
    """queue.py lies where scripts of its folder look first; their libraries still get their own."""
    asks = "import queue, concurrent.futures, multiprocessing; assert queue.Queue and queue.SimpleQueue; print('good')"
    found = subprocess.run([sys.executable, "-c", asks], cwd=QUEUE.parent, capture_output=True, text=True, check=True)
    assert found.stdout == "good\n"
