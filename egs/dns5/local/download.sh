#!/usr/bin/env bash
# Stage 0: fetches DNS5, when asked to. What is there is kept; an interrupted download goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

download=false
dns5=${DNS5:-downloads}
part=''              # of the list of archives, blanks between; by default those that it marks so
downloads=''         # where to; by default the corpus's folder
url=''               # of a mirror
archives=conf/archives.yaml
keep_archives=false
dry_run=false        # only say what it would take
corpora='' valid_share='' test_share='' seed='' bad_audio='' fingerprint='' datadir='' nj='' # options of data.sh, which gets the same ones

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 --download true [--part 'NAME ...'] [--downloads DIR] [--url URL] [--keep_archives true]
Fetches the parts of $archives into DIR ($dns5), checks and unpacks them. Without --download true it
only says what that would take, unless the corpus is there."
. parse_options.sh
: "$corpora$valid_share$test_share$seed$bad_audio$fingerprint$datadir$nj" "${downloads:=$dns5}"

. fetch_archives.sh
fetch_archives "$dns5"
