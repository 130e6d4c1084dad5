#!/usr/bin/env bash
# VoiceBank-DEMAND, the 28-speaker set: the SEGAN family, CNUNet, GaGNet and others (see README.md).
# Usage: ./run.sh --corpus_dir DIR [--train_config conf/train_NAME.yaml] [options]
#        DIR ($VOICEBANK_DEMAND) holds the archives unpacked, at any depth: {clean,noisy}_{trainset_28spk,testset}_wav.
#        --local_args "--download true" fetches them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh

corpus_dir=${VOICEBANK_DEMAND:-downloads}
local_args= # further options for local/download.sh and local/data.sh
parse_options_known_only=true
. "$SENET_ROOT/utils/parse_options.sh"

exec se.sh --train_set tr_26spk --valid_set cv_2spk --test_sets tt_2spk --sample_rate 16000 \
  --train_config conf/train_gagnet.yaml --metrics "pesq_wb csig cbak covl ssnr stoi si_sdr" --expected published.yaml \
  --corpus "${corpus_dir@Q}" --local_args "--corpus_dir ${corpus_dir@Q} $local_args" "$@"
