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
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # each job is one of many; se.sh gives the training more
# Local settings, not committed: SENET_CMD_BACKEND, and the places of corpora. Written as ': "${DNS5:=/corpora/dns5}"', so
# that the environment has the last word here, and the command line the very last, in run.sh.
if [ -f conf/local.conf ]; then
  # shellcheck source=/dev/null
  . conf/local.conf
fi
