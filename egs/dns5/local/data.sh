#!/usr/bin/env bash
# Stage 1: lists DNS5 as source sets, DATADIR/{speech,noise,rir}_{train,valid,test}, and the test sets that are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

dns5=${DNS5:-downloads}
corpora=read_speech # of clean speech, blanks between; all: whatever is there
valid_share=0.02    # of the speakers, of the noise recordings and of the rooms, for validation
test_share=0.04     # and for test_synth
seed=0              # of this choice
bad_audio=raise     # skip: leave out files that cannot be read
fingerprint=name    # content: find equal recordings under other names, too; reads 64 KiB of each file besides its header
sets=               # those to list; by default all. Of the official test sets alone, only they have to be there
datadir=data
nj=$(getconf _NPROCESSORS_ONLN)
download=false part='' downloads='' url='' archives='' keep_archives=false dry_run=false # options of download.sh, which gets the same ones

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 [--dns5 DIR] [--corpora 'NAME ...'|all] [--valid_share $valid_share] [--test_share $test_share] [--seed $seed]
    [--bad_audio raise|skip] [--fingerprint name|content] [--sets 'NAME ...'] [--datadir DIR] [--nj N]
Speech is divided by speaker, noise by recording, impulse responses by room. Speech whose reader is not named stays on one
side as a whole: all of the German Wikipedia, all books of several readers (mix) in one language, and else all that lies in
one folder below that of the corpus."
. parse_options.sh
: "$download$part$downloads$url$archives$keep_archives$dry_run"

python local/list_corpus.py --dns5 "$dns5" --corpora "$corpora" --sets "$sets" --datadir "$datadir" --nj "$nj" \
  --valid_share "$valid_share" --test_share "$test_share" --seed "$seed" --bad_audio "$bad_audio" --fingerprint "$fingerprint"
