#!/usr/bin/env bash
# Copy a data directory: copy_data_dir.sh [--utt-prefix P --spk-prefix P ...] SRC DST; --help says more.
SENET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) && . "$SENET_ROOT/utils/environment.sh" &&
  exec python -m senet.bin.datadir copy "$@"
