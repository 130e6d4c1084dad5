"""The script of a job for a scheduler: what each task does."""

import os
import shlex

import runner

from senet.signals import AGAIN

SCRIPT = r"""#!/usr/bin/env bash
# One task of {program} {log}; made anew by each call.
cd {folder} || exit 1
{index}
log={log} status={status} command={command}
log=${{log//{mark}/$index}} status=${{status//{mark}/$index}} command=${{command//{mark}/$index}}
start=$(date +%s.%N)
rm -f "$status"
exec >> "$log" 2>&1
echo "# Running on $(uname -n)"
echo "# Started at $(LC_ALL=C date)"
echo "# $command"
finish() {{ # finish CODE
  local signal=0 now
  now=$(date +%s.%N)
  [ "$1" -le 128 ] || [ "$1" -gt 192 ] || signal=$(($1 - 128))
  echo "# Accounting: time=$((${{now%.*}} - ${{start%.*}})) threads={threads}"
  echo "# Finished at $(LC_ALL=C date) with status $1"
  printf '{{"code": %d, "signal": %d, "host": "%s", "start": %s, "end": %s, "job_id": "%s"}}\n' \
    "$1" "$signal" "$(uname -n)" "$start" "$now" "{job_id}" > "$status.tmp" && mv -f "$status.tmp" "$status"
}}
cancelled=false signalled=false code=
tell() {{ # tell SIGNAL: to the command; to the bash in which it is, too, or to srun
  local below=
  [ ! "/proc/$child/exe" -ef "/proc/$$/exe" ] || read -r below < "/proc/$child/task/$child/children" || true
  kill -"$1" "$child" $below
}}
trap 'cancelled=true signalled=true' TERM # the command gets it, too; this script stays, to say how that ended
{traps}
if [ -f path.sh ]; then . ./path.sh || {{ finish 1; exit 1; }}; fi
{launch}bash -c '{stay}'"$command" < /dev/null &
child=$!
while signalled=false; do # a signal ends a wait, which then has to be repeated
  wait "$child"
  case $? in -1 | 127) : "${{code:=127}}" ;; *) code=$? ;; esac # the first two also where there was nothing to wait for
  $signalled || break
done
finish "$code"
if [ "$code" -eq {again} ] && ! $cancelled; then
  {requeue}
fi
exit "$code"
"""


def script_of(call):
    """The script of a ``scheduler.Call``."""
    mark = "@JOB@"
    while any(mark in word for word in (call.line.log, *call.line.words)):
        mark = f"@{mark}@"
    scheduler, line = call.scheduler, call.line
    here = os.environ.get("PWD", "")
    if not (os.path.isdir(here) and os.path.samefile(here, ".")):  # as the user sees it, through links
        here = os.getcwd()
    if None in call.tasks.values():
        index = f"index={call.indices[0]}"
    elif all(index == task for index, task in call.tasks.items()):
        index = f"index=${scheduler.TASK}"
    else:
        index = f"set -- {' '.join(map(str, call.indices))}\nindex=${{!{scheduler.TASK}}}\nset --"
    return SCRIPT.format(
        program=scheduler.PROGRAM,
        folder=shlex.quote(here),
        index=index,
        mark=mark,
        log=shlex.quote(line.log_of(mark)),
        status=shlex.quote(str(line.status_of(mark))),
        command=shlex.quote(line.command_of(mark)),
        threads=line.number("num_threads", 1),
        job_id=scheduler.JOB_ID,
        traps=scheduler.TRAPS,
        launch=scheduler.launch(line),
        stay=runner.STAY,
        again=AGAIN,
        requeue=scheduler.REQUEUE,
    )
