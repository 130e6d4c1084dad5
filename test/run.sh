#!/usr/bin/env bash
# THE test command: installs what is missing, then shellcheck, ruff, pytest.
set -uo pipefail

case ${1:-} in
  -h | --help)
    cat <<'EOF'
Usage: test/run.sh [pytest options and paths]

Installs senet if need be (tools/install.sh), then runs shellcheck over all scripts, ruff (lint and layout) over all Python, and
pytest over test/ (all of it by default; what is given here is passed on). Needs no GPU and no downloaded corpus.
EOF
    exit 0 ;;
esac

here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
tools/install.sh || exit 1
# shellcheck source=/dev/null
. tools/env.sh
export PATH=$SENET_PYTHON_DIR:$PATH OMP_NUM_THREADS=1
status=0

echo "== shellcheck (a few seconds)"
skip=(--exclude-dir={.git,venv,downloads,data,dump,exp,own})
mapfile -t scripts < <({
  grep -rlE -I "${skip[@]}" '^#!.*\bbash$' .
  grep -rl "${skip[@]}" --include='*.sh' '' .
} | LC_ALL=C sort -u)
shellcheck -x "${scripts[@]}" || status=1

echo "== ruff"
ruff check --quiet . || status=1
ruff format --quiet --check . || status=1

echo "== pytest (all of it: about 15 minutes on 2 cores)"
[ $# -eq 0 ] || cd "$here" || exit 1 # paths given are relative to where the caller stands
# A file's tests stay in one process, because they share what is slow to make.
python -m pytest -q --durations=10 -n auto --maxprocesses=4 --dist=loadfile "$@" || status=1
exit $status
