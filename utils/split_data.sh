#!/usr/bin/env bash
# Split for parallel jobs: split_data.sh [--per-utt] DIR NJ; --help says more.
SENET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) && . "$SENET_ROOT/utils/environment.sh" &&
  exec python -m senet.bin.datadir split "$@"
