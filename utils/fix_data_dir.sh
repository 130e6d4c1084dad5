#!/usr/bin/env bash
# Sort and drop what is not in all files: fix_data_dir.sh [--utt_extra_files "..."] DIR; --help says more.
SENET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) && . "$SENET_ROOT/utils/environment.sh" &&
  exec python -m senet.bin.validate --fix "$@"
