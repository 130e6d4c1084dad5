#!/usr/bin/env bash
# Installs everything senet needs. Safe to interrupt and to repeat; instant when there is nothing to do.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: tools/install.sh [--active] [--python PYTHON] [--torch SPEC]

  --active          install into the environment that is active now (venv or conda);
                    without it, into a virtual environment of its own, tools/venv
  --python PYTHON   the Python to make tools/venv from (3.10 or newer; default: the first one found)
  --torch SPEC      what to ask pip for, such as 'torch==2.8.0'; default: keep a torch >= 2.6 that is there,
                    else torch 2.13.0, its CPU build when nvidia-smi sees no GPU

Packages come from the indexes that pip is configured with. The choice is remembered: the next call without
options repeats it, and does nothing at all unless setup.py or this script has changed.
EOF
}

die() { echo "tools/install.sh: $*" >&2; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env_file=$root/tools/env.sh
log=$root/tools/install.log
active=false base_python='' torch=''
given=("$@")
if [ $# -eq 0 ] && [ -f "$env_file" ]; then # what was chosen last time
  mapfile -t given < <(sed -n 's/^# option: //p' "$env_file")
  set -- "${given[@]}"
fi
while [ $# -gt 0 ]; do
  case $1 in
    --active) active=true; shift ;;
    --python | --torch)
      [ $# -ge 2 ] || die "option $1 needs a value"
      if [ "$1" = --python ]; then base_python=$2; else torch=$2; fi
      shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown option '$1'" ;;
  esac
done

# The stamp says what was installed: it changes with the requirements, the way of installing, and the options.
stamp=$(cat "$root/setup.py" "$root/tools/install.sh" <(printf '%s\n' "${given[@]}") | cksum | tr ' ' -)
up_to_date() { # env.sh is written last, so its stamp means that all of it is there
  [ -f "$env_file" ] && grep -qx "# stamp: $stamp" "$env_file" && (
    # shellcheck source=/dev/null
    . "$env_file" && [ -x "$SENET_PYTHON_DIR/python" ])
}
up_to_date && exit 0

exec 9>>"$log" # the log is also the lock: two recipes started at once install once
if command -v flock >/dev/null; then
  flock -n 9 || { echo "Another installation is running (see $log); waiting for it."; flock 9; }
  up_to_date && exit 0
fi
: >"$log"

step() { echo "$(date +%H:%M:%S) $*" | tee -a "$log"; }
failed() {
  echo "---- the last lines of $log:" >&2
  tail -n 15 "$log" >&2
  die "$1"
}

if $active; then
  [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || die "--active: no environment is active; activate one or leave --active out"
  prefix=${VIRTUAL_ENV:-$CONDA_PREFIX}
else
  prefix=$root/tools/venv
fi
python=$prefix/bin/python

has_gpu=false
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then has_gpu=true; fi
free_gb=$(($(df -Pk "$root/tools" | awk 'NR == 2 {print $4}') / 1048576))
echo "Installing senet's Python packages into $prefix (details: $log)."
echo "With torch's CPU build: about 2 minutes and 1.5 GB of disk; with CUDA: about 8 minutes and 8 GB. Free here: $free_gb GB."
echo "You can interrupt it and run it again."

good_python() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }
if ! $active && ! "$python" -m pip --version >/dev/null 2>&1; then
  if [ -z "$base_python" ]; then
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
      if good_python "$candidate"; then base_python=$candidate; break; fi
    done
    [ -n "$base_python" ] || die "found no Python >= 3.10 with venv; install one (Debian: apt-get install python3 python3-venv python3-dev) or name it with --python"
  fi
  good_python "$base_python" || die "--python $base_python: not a Python >= 3.10 with venv and ensurepip"
  step "1/4 virtual environment from $("$base_python" --version 2>&1)"
  "$base_python" -m venv --clear "$prefix" >>"$log" 2>&1 || failed "could not make $prefix"
else
  step "1/4 environment is there"
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$python is older than 3.10"

pip_install() { "$python" -m pip install --disable-pip-version-check --no-input "$@" >>"$log" 2>&1 9>&-; }

torch_is_there() {
  "$python" - >/dev/null 2>&1 <<'EOF'
from importlib.metadata import version
major, minor = version("torch").split(".")[:2]
raise SystemExit((int(major), int(minor)) < (2, 6))
EOF
}
if [ -n "$torch" ]; then
  step "2/4 $torch"
  pip_install "$torch" || failed "pip could not install '$torch'"
elif torch_is_there; then
  step "2/4 torch is there"
elif $has_gpu; then
  step "2/4 torch 2.13.0 for CUDA (several GB)"
  pip_install torch==2.13.0 || failed "pip could not install torch; another version can be given with --torch"
else
  step "2/4 torch 2.13.0 for CPU (about 190 MB)"
  if ! pip_install torch==2.13.0+cpu; then
    step "    pip's indexes have no CPU build of it: taking the default build"
    pip_install torch==2.13.0 || failed "pip could not install torch; another version can be given with --torch"
  fi
fi

# torchaudio is kept apart from the rest: newer torch versions have no torchaudio of the same number, and its
# compiled part wants CUDA libraries that a CPU-only torch lacks. What senet uses is Python, and torchaudio works
# without its compiled part, provided that the files are not there at all.
audio_imports() {
  "$python" -c 'import torchaudio.functional, torchaudio.transforms, torchaudio.compliance.kaldi' >>"$log" 2>&1
}
torchaudio_works() {
  local lib so
  audio_imports && return
  lib=$("$python" -c 'import importlib.util as u; print(u.find_spec("torchaudio").submodule_search_locations[0])')/lib
  for so in "$lib"/*.so; do
    [ -e "$so" ] && mv "$so" "$so.disabled"
  done
  audio_imports
}
step "3/4 torchaudio"
if ! { "$python" -m pip show -q torchaudio >>"$log" 2>&1 && torchaudio_works; }; then
  torch_minor=$("$python" -c 'from importlib.metadata import version; print(".".join(version("torch").split(".")[:2]))')
  for spec in "torchaudio==$torch_minor.*" torchaudio==2.11.0 torchaudio none; do
    [ "$spec" != none ] || failed "no torchaudio imports beside torch $torch_minor"
    if pip_install --no-deps "$spec" && torchaudio_works; then break; fi
  done
fi

step "4/4 the other packages, and senet itself"
pip_install -e "${root}[tb,mini,dev]" ||
  failed "pip could not install the packages (pesq is compiled here: it needs a C compiler and Python's headers, Debian: apt-get install gcc python3-dev)"
pip_install -e "${root}[onnx]" || step "    no onnxruntime for this machine: DNSMOS will be \"not computed\""

"$python" "$root/tools/check_install.py" --quiet >>"$log" 2>&1 9>&- ||
  failed "something does not work; '$python tools/check_install.py' says what. To start afresh: rm -r $prefix"

{
  echo "# shellcheck shell=bash"
  echo "# Written by tools/install.sh; read by path.sh."
  echo "# stamp: $stamp"
  [ ${#given[@]} -eq 0 ] || printf '# option: %s\n' "${given[@]}"
  printf 'export SENET_PYTHON_DIR=%q\n' "$prefix/bin"
} >"$env_file.tmp"
mv "$env_file.tmp" "$env_file"
step "done"
