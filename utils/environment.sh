# shellcheck shell=bash
# The environment of a recipe and of each of its jobs; sourced by the recipe's path.sh, which sets SENET_ROOT.

if ! [ -f "$SENET_ROOT/tools/env.sh" ]; then
  echo "path.sh: senet is not installed yet ($SENET_ROOT/tools/env.sh is missing); run $SENET_ROOT/tools/install.sh" >&2
  return 1
fi
# shellcheck source=/dev/null
. "$SENET_ROOT/tools/env.sh"
if ! [ -x "$SENET_PYTHON_DIR/python" ]; then
  echo "path.sh: there is no python in $SENET_PYTHON_DIR any more; run $SENET_ROOT/tools/install.sh" >&2
  return 1
fi
export SENET_ROOT
export PATH=$SENET_ROOT/utils:$SENET_PYTHON_DIR:$PATH
export PYTHONPATH=$SENET_ROOT${PYTHONPATH:+:$PYTHONPATH}
export LC_ALL=C PYTHONIOENCODING=UTF-8
# Local settings, not committed: lines NAME=VALUE, such as DNS5=/corpora/dns5 or SENET_CMD_BACKEND=local. They are exported.
# What the environment had before wins over them, and the command line over both, in run.sh; only PATH and other names that
# end so can be added to here.
if [ -f conf/local.conf ]; then
  environment_before=()
  for environment_name in $(compgen -e); do
    case $environment_name in *PATH | SHELLOPTS | BASHOPTS | _) continue ;; esac
    environment_before+=("$environment_name=${!environment_name}")
  done
  set -a
  trap 'echo "path.sh: a line of conf/local.conf is not NAME=VALUE (no blanks around the =; quotes, if VALUE has some)" >&2' ERR
  # shellcheck source=/dev/null
  . conf/local.conf
  trap - ERR
  set +a
  export "${environment_before[@]}"
  unset -v environment_before environment_name
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # each job is one of many; se.sh gives the training more
