# shellcheck shell=bash
# How jobs are run; sourced by se.sh. Choose with SENET_CMD_BACKEND (in the environment or in conf/local.conf).
#
# A runner is called as '$train_cmd [options] JOB=1:N LOGFILE command...', as Kaldi's are, so a site's own
# run.pl, slurm.pl or queue.pl can be put in here, with options: train_cmd="queue.pl --mem 4G".

case ${SENET_CMD_BACKEND:=local} in
  local) runner=run.py ;;   # on this machine
  slurm) runner=slurm.py ;; # conf/slurm.conf says what --mem, --gpu, ... become; 'slurm.py --help' shows the default
  sge) runner=queue.py ;;   # the same with conf/queue.conf
  ssh) runner=ssh.py ;;     # on the machines in .queue/machines
  *)
    echo "cmd.sh: no back end '$SENET_CMD_BACKEND' (SENET_CMD_BACKEND); there are: local slurm sge ssh" >&2
    return 1
    ;;
esac
export train_cmd=$runner  # arrays of CPU jobs: mixing, features, scoring
export cuda_cmd=$runner   # the training
export decode_cmd=$runner # arrays of enhancing jobs
