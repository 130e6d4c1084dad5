#!/usr/bin/env bash
# Starts a recipe, egs/NAME, that works on two folders of recordings. Usage: utils/new_recipe.sh NAME
set -euo pipefail

die() { echo "new_recipe.sh: $*" >&2; exit 1; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -eq 1 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
name=$1
[[ $name =~ ^[a-z][a-z0-9_]*$ ]] || die "'$name': a recipe's name has small letters, digits and '_', as in voicebank_demand"
recipe=$root/egs/$name
[ ! -e "$recipe" ] || die "$recipe is there already"

mkdir -p "$recipe"/{conf,local}
cp "$root"/egs/mini/{path.sh,cmd.sh} "$recipe"
config=$(cd "$root/egs/mini/conf" && printf '%s\n' train_*.yaml | head -n 1)
cp "$root/egs/mini/conf/$config" "$recipe/conf"

cat > "$recipe/run.sh" << END
#!/usr/bin/env bash
# $name: say here what is trained on what.
# Usage: ./run.sh --speech_dir DIR --noise_dir DIR [options]
#        By default \$${name^^}_SPEECH and \$${name^^}_NOISE, from the environment or conf/local.conf.
set -euo pipefail
cd "\$(dirname "\${BASH_SOURCE[0]}")"
. ./path.sh

speech_dir=\${${name^^}_SPEECH:-downloads/speech}
noise_dir=\${${name^^}_NOISE:-downloads/noise}
local_args= # further options for local/data.sh
parse_options_known_only=true
. "\$SENET_ROOT/utils/parse_options.sh"

exec se.sh --train_set train --valid_set valid --test_sets test --sample_rate 16000 \\
  --train_config conf/$config --metrics "pesq_wb stoi si_sdr" \\
  --corpus "\${speech_dir@Q} \${noise_dir@Q}" \\
  --local_args "--speech_dir \${speech_dir@Q} --noise_dir \${noise_dir@Q} \$local_args" "\$@"
END

cat > "$recipe/local/data.sh" << 'END'
#!/usr/bin/env bash
# Stage 1: writes the source sets that conf/mix_*.yaml name, DATADIR/{speech,noise}_{train,valid,test}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

datadir=data
speech_dir=
noise_dir=
bad_audio=raise # skip: leave out files that cannot be read
nj=1
# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 --speech_dir DIR --noise_dir DIR [--datadir DIR] [--bad_audio raise|skip] [--nj N]
Divides speech by speaker (the folders DIR/<speaker>/) and noise by recording, 8:1:1."
. parse_options.sh

for dir in "$speech_dir" "$noise_dir"; do
  if ! [ -d "$dir" ]; then
    cat >&2 << MISSING
$0: '$dir': no such folder. The recordings (wav, flac, ogg, mp3) should lie, at any depth, in
  SPEECH/<speaker>/...   and   NOISE/...
Say where by one of
  ./run.sh --speech_dir SPEECH --noise_dir NOISE
  export @NAME@_SPEECH=SPEECH @NAME@_NOISE=NOISE, or a line for each, without export, in conf/local.conf
MISSING
    exit 1
  fi
done
split="train=0.8 valid=0.1 test=0.1"
prepare() { python -m senet.bin.prepare --split "$split" --bad_audio "$bad_audio" --nj "$nj" "$@"; }
prepare --src "$speech_dir" --out "$datadir/speech" --kind speech --speaker folder
prepare --src "$noise_dir" --out "$datadir/noise" --kind noise --speaker file
END

sed -i "s/@NAME@/${name^^}/g" "$recipe/local/data.sh"

for set in train valid test; do
  case $set in train) clips=5000 ;; valid) clips=300 ;; test) clips=500 ;; esac
  cat > "$recipe/conf/mix_$set.yaml" << END
speech: speech_$set
noise: noise_$set
num_clips: $clips
seconds: 3
snr_lower: -5
snr_upper: 15
num_snr_levels: 21
seed: 1
END
done

cat > "$recipe/README.md" << END
# $name

Say what the corpora are, where to get them, and under which licences they may be used.

    ./run.sh --speech_dir DIR --noise_dir DIR

or with \`${name^^}_SPEECH\` and \`${name^^}_NOISE\` in the environment or in \`conf/local.conf\`.
DIR/<speaker>/... holds speech, the other folder noise, at any depth and rate (wav, flac, ogg, mp3).
\`./run.sh --list\` shows the stages, \`--dry_run\` what would run and the disk it needs, \`--help\` all options.

- \`local/data.sh\` turns the corpora into source sets (stage 1).
- \`conf/mix_<set>.yaml\` says how each set is mixed (stage 2), \`conf/train_*.yaml\` what is trained (stage 4).
- \`RESULTS.md\` is written by stage 7; commit it with the command and the hardware.
END
chmod +x "$recipe"/run.sh "$recipe"/local/data.sh
echo "$recipe is made: try 'cd $recipe && ./run.sh --speech_dir DIR --noise_dir DIR --list', then edit conf/, local/ and README.md"
