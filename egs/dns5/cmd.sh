# shellcheck shell=bash
# How jobs are run; sourced by se.sh. Choose with SENET_CMD_BACKEND (in the environment or in conf/local.conf).
#
# A runner is called as '$train_cmd [options] JOB=1:N LOGFILE command...', as Kaldi's are, so a site's own
# run.pl, slurm.pl or queue.pl can be put in here, with options: train_cmd="queue.pl --mem 4G".

case ${SENET_CMD_BACKEND:=local} in
  local) # on this machine
    export train_cmd=run.py  # arrays of CPU jobs: mixing, features, scoring
    export cuda_cmd=run.py   # the training
    export decode_cmd=run.py # arrays of enhancing jobs
    ;;
  *)
    echo "cmd.sh: no back end '$SENET_CMD_BACKEND' (SENET_CMD_BACKEND); there is: local" >&2
    return 1
    ;;
esac
