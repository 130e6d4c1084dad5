#!/usr/bin/env bash
# Merge data directories: combine_data.sh [--extra-files "..."] [--skip-fix] DST SRC...; --help says more.
SENET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) && . "$SENET_ROOT/utils/environment.sh" &&
  exec python -m senet.bin.datadir combine "$@"
