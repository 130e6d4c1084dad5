#!/usr/bin/env bash
# Stage 0: fetches VoiceBank-DEMAND, when asked to. What is there is kept; an interrupted download goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

download=false
corpus_dir=${VOICEBANK_DEMAND:-downloads}
part=''              # of the list of archives, blanks between; by default those that it marks so
downloads=''         # where to; by default the corpus's folder
url=''               # of a mirror
archives=conf/archives.yaml
keep_archives=false
counts='' datadir='' nj='' # options of data.sh, which gets the same ones

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 --download true [--part 'NAME ...'] [--downloads DIR] [--url URL] [--keep_archives true]
Fetches the parts of $archives into DIR ($corpus_dir), checks and unpacks them. Without --download true it
only says what that would take, unless the corpus is there."
. parse_options.sh
: "$counts$datadir$nj" "${downloads:=$corpus_dir}"

flags=()
if $keep_archives; then flags+=(--keep_archives); fi
if ! $download; then
  if [ -d "$corpus_dir" ]; then exit 0; fi # stage 1 looks into it
  echo "$0: $corpus_dir is not there, and nothing is fetched without '--download true', which takes:"
  flags+=(--dry_run)
fi
# shellcheck disable=SC2086 # names of parts
python -m senet.bin.fetch "$archives" --downloads "$downloads" --part $part --url "$url" "${flags[@]}" || [ "$download" = false ]
