#!/usr/bin/env bash
# Low-latency spectrogram masking on LibriSpeech speech and MS-SNSD noise (see README.md).
# Usage: ./run.sh --clean_train_path DIR --noise_train_path DIR --clean_test_path DIR --noise_test_path DIR [options]
#        The folders are searched at any depth; by default they are those of $LIBRISPEECH and $MSSNSD.
#        --train_config chooses the variant of the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh

clean_train_path=${LIBRISPEECH:-downloads/LibriSpeech}/train-clean-360
noise_train_path=${MSSNSD:-downloads/MS-SNSD}/noise_train
clean_test_path=${LIBRISPEECH:-downloads/LibriSpeech}/test-clean
noise_test_path=${MSSNSD:-downloads/MS-SNSD}/noise_test
local_args= # further options for local/download.sh and local/data.sh, such as "--download true"
parse_options_known_only=true
. "$SENET_ROOT/utils/parse_options.sh"

exec se.sh --train_set train --valid_set valid --test_sets test --sample_rate 16000 \
  --train_config conf/train_lowlatency.yaml --metrics "pesq_wb stoi si_sdr" \
  --corpus "${clean_train_path@Q} ${noise_train_path@Q} ${clean_test_path@Q} ${noise_test_path@Q}" \
  --local_args "--clean_train_path ${clean_train_path@Q} --noise_train_path ${noise_train_path@Q} \
    --clean_test_path ${clean_test_path@Q} --noise_test_path ${noise_test_path@Q} $local_args" "$@"
