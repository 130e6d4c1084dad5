# shellcheck shell=bash
# Sourced by run.sh: finds the repository from this file's place (or takes SENET_ROOT) and sets the environment.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -f "$root/utils/environment.sh" ]; then SENET_ROOT=$root; fi
if ! [ -f "${SENET_ROOT:-}/utils/environment.sh" ]; then
  echo "path.sh: no senet in $root; set SENET_ROOT to the repository, in which tools/install.sh was run" >&2
  return 1
fi
unset -v root
. "$SENET_ROOT/utils/environment.sh"
