#!/usr/bin/env bash
# Check data directories, as Kaldi's validate_data_dir.sh: validate_data_dir.sh [--no-text ...] DIR...; --help says more.
SENET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) && . "$SENET_ROOT/utils/environment.sh" &&
  exec python -m senet.bin.validate "$@"
