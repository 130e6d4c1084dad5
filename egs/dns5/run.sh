#!/usr/bin/env bash
# DNS5, the ICASSP 2023 Deep Noise Suppression Challenge, at 16 kHz: TF-GridNet, GaGNet and others (see README.md).
# Usage: ./run.sh --dns5 DIR [--train_config conf/train_NAME.yaml] [options]     or with DNS5=DIR in the environment
#        DIR holds the unpacked archives, at any depth: read_speech, noise_fullband, impulse_responses, V5_dev_testset ...
#        Training data are mixed while training; with --online false they are mixed once, on the disk (58 GB).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh

dns5=${DNS5:-downloads}
local_args= # further options for local/download.sh and local/data.sh, such as "--corpora all"
test_sets=  # default: test_synth, and those of the official development sets that are in DIR/V5_dev_testset
metrics="dnsmos_sig dnsmos_bak dnsmos_ovrl dnsmos_p808 pesq_wb stoi si_sdr dnsmos_sig_raw dnsmos_bak_raw dnsmos_ovrl_raw"
parse_options_known_only=true
. "$SENET_ROOT/utils/parse_options.sh"
export DNSMOS_DIR=${DNSMOS_DIR:-$dns5/dnsmos}

if [ -z "$test_sets" ]; then
  test_sets=test_synth
  found=$(find -L "$dns5/V5_dev_testset" -maxdepth 3 -type d -name noisy 2> /dev/null || true)
  [[ $found != *Track1_Headset/noisy* ]] || test_sets+=" dev_headset"
  [[ $found != *Track2_Speakerphone/noisy* ]] || test_sets+=" dev_speakerphone"
fi
if [[ $metrics == *dnsmos* && $local_args != *dnsmos* && ! -f $DNSMOS_DIR/DNSMOS/sig_bak_ovr.onnx ]]; then
  echo "run.sh: DNSMOS is not computed without its models, which are not in $DNSMOS_DIR (\$DNSMOS_DIR);" \
    "local/download.sh --download true --part dnsmos fetches them (2.5 MB)" >&2
fi

exec se.sh --train_set train --valid_set valid --test_sets "$test_sets" --online true --sample_rate 16000 \
  --train_config conf/train_tfgridnet_dl.yaml --metrics "$metrics" \
  --corpus "${dns5@Q}" --local_args "--dns5 ${dns5@Q} $local_args" "$@"
