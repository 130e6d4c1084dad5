#!/usr/bin/env bash
# Take a part: subset_data_dir.sh [--first|--last|--shortest|--speakers|--per-spk] SRC N DST; --help says more.
SENET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) && . "$SENET_ROOT/utils/environment.sh" &&
  exec python -m senet.bin.datadir subset "$@"
