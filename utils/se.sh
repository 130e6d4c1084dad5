#!/usr/bin/env bash
# The driver that all recipes share: decides which stages run and calls them. A recipe's run.sh calls it
# with the names of its sets and its configs; what a stage does is in senet.bin, what is done in stage.py.
set -euo pipefail

# shellcheck disable=SC2329 # functions are called by name, as stage_<name> and through unit
{ # bash reads all of a group before it runs it: a change of this file does not disturb a running recipe
log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"; }
die() { echo "se.sh: $*" >&2; exit 1; }

names=(download data mix feats train enhance score report pack)
stage=0                # the first stage to run, by number or name
stop_stage=8           # the last one
list=false             # print the state of each stage, run nothing
dry_run=false          # print what would run and the disk it needs, run nothing; exit status 1 where a disk has too little
force=false            # repeat the chosen stages even if they are done
skip_data_prep=false   # leave out stages 0 to 3
skip_train=false       # stage 4
skip_eval=false        # stages 5 to 8
model=                 # an experiment of another recipe, or a pack, to enhance with and score instead of training one
nj=$(getconf _NPROCESSORS_ONLN)           # parallel jobs
ngpu=0                 # GPUs for training, of each machine, with a process for each
num_nodes=1            # machines for training, through a scheduler
num_threads=$(getconf _NPROCESSORS_ONLN)  # CPU threads for training
num_workers=           # processes that load training data; default: the training's, but 2 with --online true
train_set=train
valid_set=valid
test_sets="test"
sample_rate=16000
online=false           # mix the training set while training, by its config, instead of storing it
feats_type=raw         # raw or stft for a training; fbank, Kaldi's, for other programs
train_config=
tag=                   # the experiment is called after the config, and the tag where there is one
metrics="pesq_wb stoi si_sdr"
expected=              # published.yaml: the noisy input has to score as it says before anything is trained
score_checkpoints=0    # so many of the last checkpoints that the training keeps (keep_last) are enhanced with and scored, too
datadir=data
dumpdir=dump
expdir=exp
corpus=                # folders that stage 1 reads; a change in them redoes it
local_args=            # options for local/download.sh and local/data.sh
num_clips=             # sizes of sets instead of the config's, as in "train=40 valid=8"
mix_args=              # further options for senet.bin.mix, senet.bin.feats, ...
feats_args=
train_args=
enhance_args=
score_args=
pack_args=             # such as "--licence CC-BY-4.0"
baseline=              # the system that the report takes differences to; default: the noisy input
compare=               # further experiment folders for the report, from other recipes
results=               # default: RESULTS.md beside expdir

usage() {
  if [ -f run.sh ]; then sed -n '2,/^[^#]/s/^# \{0,1\}//p' run.sh; fi
  cat << END
Options, with this recipe's values ("--name value"; a switch, one that is true or false, needs no value):
  --stage $stage, --stop_stage $stop_stage       by number or name: $(for k in "${!names[@]}"; do printf '%s %s  ' "$k" "${names[k]}"; done)
  --list, --dry_run, --force      show each stage's state; show what would run; repeat the chosen stages: a training begins anew, the
                                  earlier one is kept in $expdir/.old
  --skip_data_prep, --skip_train, --skip_eval     leave out stages 0 to 3, 4, 5 to 8
  --nj $nj                          parallel jobs
  --ngpu $ngpu, --num_threads $num_threads, --num_workers ${num_workers:-N}     GPUs, CPU threads and data loading processes of the training;
                                  of the last by default 4 with a GPU, else 2 with --online true, else 0
  --num_nodes $num_nodes                   machines of the training, through Slurm, each with --ngpu GPUs, or with a process on its CPUs
  --train_set $train_set --valid_set $valid_set --test_sets "$test_sets"
  --sample_rate $sample_rate             Hz; 16k is understood, too
  --online $online                  mix the training set while training, by its config, instead of storing it
  --feats_type $feats_type                what training reads: raw or stft; fbank (to stage 3) makes Kaldi's features, for other programs
  --train_config ${train_config:-FILE}   --tag '$tag'     the experiment is $expdir/<name of the config>[_<tag>]
  --model '$model'                      an experiment of another recipe, such as ../mini/exp/train_lowlatency, or a pack: nothing is trained, of the
                                  sets only the test sets are made, and it is enhanced with and scored in
                                  $expdir/<recipe>_<experiment>[_<tag>] or $expdir/<pack>[_<tag>]
  --metrics "$metrics"
  --expected '$expected'             published.yaml: the noisy input has to score as it says before anything is trained
  --score_checkpoints $score_checkpoints           enhance and score with each of so many last checkpoints, too, which the training's keep_last keeps:
                                  the table gets their mean and standard deviation
  --baseline '$baseline'             the system that the report takes differences to; the noisy input if not given
  --compare '$compare'              further experiment folders in the report, of other recipes: '../mini/exp/train_x ../mini/exp/train_y'
  --datadir $datadir --dumpdir $dumpdir --expdir $expdir --results ${results:-FILE}     paths without blanks
  --corpus "$corpus"               folders that stage 1 reads; a change in them redoes it
  --num_clips "$num_clips"            sizes of mixed sets, as in "train=40 valid=8"
  --local_args "$local_args"   --mix_args "$mix_args"   --feats_args "$feats_args"   --train_args "$train_args"
  --enhance_args "$enhance_args"   --score_args "$score_args"   --pack_args "$pack_args"     further options for the commands, each in one word
  --config FILE                   a file with such settings (name=value)
END
}
[ -n "${SENET_ROOT:-}" ] || die "the environment is not set; run it from a recipe's run.sh, after '. ./path.sh'"
config_given=$(printf '%s\n' "$@" | grep -c -e '^--train[_-]config$') || true # a recipe gives one, its default
# shellcheck source=utils/parse_options.sh
. "$SENET_ROOT/utils/parse_options.sh"
[ $# -eq 0 ] || { echo "se.sh: what is '$*'? Options come as --name value; --help lists them" >&2; exit 2; }
# shellcheck source=SCRIPTDIR/../egs/mini/cmd.sh
. ./cmd.sh

stage_py() { python3 -S "$SENET_ROOT/utils/stage.py" "$@"; } # -S: it starts in half the time
disk_py() { python3 -S "$SENET_ROOT/utils/disk.py" "$@"; }

given=(stage stop_stage skip_train nj ngpu num_nodes num_threads num_workers train_set valid_set test_sets sample_rate online feats_type
  train_config tag model metrics expected score_checkpoints datadir dumpdir expdir num_clips results compare baseline skip_eval)
settled=$(for name in "${given[@]}"; do printf '%s=%s\0' "$name" "${!name}"; done \
  | python3 -S "$SENET_ROOT/utils/options.py" "${names[@]}") || exit 1
mapfile -t settled <<< "$settled"
read -r stage stop_stage sample_rate <<< "${settled[0]}" # numbers, so that stages compare
exp=$expdir/${settled[1]}${tag:+_$tag} model=${settled[2]:-}
: "${results:=${expdir%"${expdir##*/}"}RESULTS.md}"
stored_set=$train_set # where the training set is stored: not when it is mixed while training
! $online || stored_set=
if $online && [ "$ngpu" -eq 0 ]; then : "${num_workers:=2}"; fi
[ -z "$model" ] || skip_train=true stored_set='' valid_set=''

corpus_words=() compare_words=() local_words=() mix_words=() feats_words=() train_words=() enhance_words=() score_words=() pack_words=()
for name in corpus compare {local,mix,feats,train,enhance,score,pack}_args; do # split as a shell does: --local_args into local_words
  [ -n "${!name}" ] || continue
  split=$(stage_py words -- "${!name}") || die "--$name \"${!name}\": cannot be split into words as in a shell"
  mapfile -t "${name%_args}_words" <<< "$split"
done

# Runs a command so that a signal to this script ends it at once, not only after the command.
child='' script=false
run() {
  [ "$1" = bash ] && script=true || script=false
  child=''
  "$@" &
  child=$!
  wait "$child"
}
stop() { # waits for the command's end, for which a training saves; a second Ctrl-C reaches run.py, which then kills
  local below=
  child=${child:-${!:-}} # a signal may come before child=$!
  trap '' INT HUP
  trap 'kill -TERM "$child" 2> /dev/null || true' TERM
  if [ -n "$child" ]; then
    ! $script || { read -r below < "/proc/$child/task/$child/children"; } 2> /dev/null || true # bash would leave them at work
    # shellcheck disable=SC2086
    kill -TERM "$child" $below 2> /dev/null || true
    while kill -0 "$child" 2> /dev/null; do wait "$child" || true; done
    wait # the training's last lines are shown
  fi
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop 129' HUP

k=
busy=()
ended() {
  local code=$? how=()
  [ "$code" -ne 0 ] && [ -n "$k" ] && ! $list && ! $dry_run || return 0
  [ "$code" -gt 128 ] || how=(--failed)
  [ ${#busy[@]} -eq 0 ] || stage_py restore "${busy[@]}" --pid $$ "${how[@]}" || true
  local what="did not finish (exit status $code); when that is mended," saved='' name
  if [ "$code" -gt 128 ] && name=$(kill -l "$((code - 128))" 2> /dev/null); then
    if [ "${busy[0]:-}" = train ]; then
      saved=$(sed -n 's/.*\(saved at step [0-9]*\).*/\1/p' "$exp/logdir/train.log" 2> /dev/null | tail -n 1) || true
      [ -f "$exp/checkpoints/index.json" ] || saved=${saved:-and the training has not saved anything}
      saved=", ${saved:-and the training has not saved: the last checkpoint counts}"
    fi
    what="was interrupted by SIG$name$saved;"
  fi
  echo "se.sh: stage $k (${names[k]}) $what the same command goes on where it stopped; with --stage ${names[k]} added," \
    "it starts there." >&2
}
trap ended EXIT

# unit NAME ROOT "OUTPUTS" WORK DESCRIPTION...: calls the function WORK, unless that is done already. NAME and
# ROOT say where the state is kept, DESCRIPTION (options of stage.py) on what the result depends.
declare -A pending # folders that will change, when nothing is run
declare -A said    # of a unit, "mix dump/raw/train": what its command says of the disk it needs
needs=()           # the same for disk.py: a line for each unit that is not done
ask() { # ask UNIT FOLDER STATE COMMAND...: the command only checks its options and says what it would write
  local found
  if ! found=$("${@:4}" 2>&1) && [[ $found == *"error: "* ]]; then
    die "stage $k (${names[k]}): $(sed -n '/error: /,$p' <<< "$found" | sed '1s/^.*error: //')"
  fi
  said["$1 $2"]=${found##*$'\n'}
  needs+=("$k ${names[k]}"$'\t'"$2"$'\t'"$3"$'\t'"${said["$1 $2"]}")
}
fits() { # fits STAGE...: refuses them where an option is wrong, or less disk is there than they need, as far as is known
  local dry_run=true needs=() k
  local -A pending=() said=()
  for k in "$@"; do "stage_${names[k]}"; done > /dev/null
  printf '%s\n' "${needs[@]}" | disk_py check
}

explained() { # a source set is missing although stage 1 is done
  local folders=${corpus_words[*]}
  if [[ $1 == "missing input: "*", which stage 1 (data) makes" ]] && grep -qs '"state": "done"' "$datadir/.stages/data.json"; then
    echo "$1: it is done, and has found nothing for that in ${folders:-the corpus}; README.md says what it takes"
  else
    echo "$1"
  fi
}
unit() {
  local name=$1 root=$2 outputs=$3 work=$4 state code=0 word
  shift 4
  if $list || $dry_run; then
    state=$(stage_py state "$name" "$root" "$@")
    for word in "$@"; do
      if [[ $state == done* && -n $word && -n ${pending[$word]:-}${pending[${word%/*}]:-} ]]; then state="stale: depends on $word"; fi
    done
    if [[ $work == train && $state == "stale: depends on "* ]]; then state="refused: trained on other data (${state#*on } changes); choose --tag NAME, or --force"; fi
    if [[ -n $forced && ($state == done* || $state == refused*) ]]; then state="stale: --force"; fi
    [[ $state == done* ]] || pending[$root]=1 pending[$root/checkpoints]=1
    printf '%s %-9s %-36s %s\n' "$k" "$name" "$root" "$(explained "$state")"
    if $dry_run && [[ $state != done* && $state != refused* ]]; then ask "$name" "$root" "$state" "$work"; fi
    return
  fi
  busy=("$name" "$root" "$@")
  while code=0 && { state=$(stage_py begin "$name" "$root" --pid $$ ${forced:+--force} "$@") || code=$?; } && [ "$code" -eq 5 ]; do
    log "stage $k: ${state%; *}, which this run needs, too: it waits"
    run python3 -S "$SENET_ROOT/utils/stage.py" wait "$name" "$root"
  done
  case $code in
    0) log "stage $k: $name $root (${state//$'\n'/; })" ;;
    3) log "stage $k: $name $root: $state" && busy=() && return ;;
    4) k='' && exit 1 ;; # another run is at work there
    *) die "stage $k: $name $root: $(explained "${state:-refused}")" ;;
  esac
  worked=true
  "$work"
  # shellcheck disable=SC2086
  stage_py end "$name" "$root" --require $outputs
  busy=()
}

# array FILE SIZE LOG COMMAND...: the command with --job JOB/N, as an array over FILE's lines in shards of SIZE.
array() {
  local n log=$3
  n=$(stage_py jobs "$nj" "$1" "$2")
  shift 3
  log "$n jobs, logs in $log"
  # shellcheck disable=SC2154
  run $train_cmd "JOB=1:$n" "$log" "$@" --job "JOB/$n"
}

stage_download() {
  [ -f local/download.sh ] || return 0
  if $list || $dry_run; then
    echo "$k download  local/download.sh skips what is there"
    ! $dry_run || ask download "" new bash local/download.sh "${local_words[@]}" --dry_run true
    return
  fi
  log "stage $k: local/download.sh"
  run bash local/download.sh "${local_words[@]}"
}

missing_corpus() { # said first, unless stage 0 makes it
  local folder='' absent=()
  for folder in "${corpus_words[@]}"; do [ -e "$folder" ] || absent+=("$folder"); done
  [ ${#absent[@]} -gt 0 ] || return 0
  [ ! -f local/download.sh ] || folder=$(bash local/download.sh "${local_words[@]}" --dry_run true 2>&1) || true
  [[ ! $folder =~ [1-9][0-9.]*\ (bytes|[KMGT]B)$ ]] || return 0
  echo "the corpus is not there: ${absent[*]}; how to say where it is, or to have it fetched:"
  sed -n '/^# Usage/,/^[^#]/s/^#/ /p' run.sh
}
stage_data() { # for a model from elsewhere only what the test sets come from, where not all is there and local/data.sh can
  local name=data sets='' set only=()
  if [ -n "$model" ] && grep -q '^sets=' local/data.sh && ! grep -qs '"state": "done"' "$datadir/.stages/data.json"; then
    for set in $test_sets; do
      [ ! -f "conf/mix_$set.yaml" ] || sets+=" $(stage_py sources "conf/mix_$set.yaml" "" -- "$mix_args" | tr '\n' ' ')"
    done
    name=data_test only=(--option "sets=$sets")
  fi
  unit "$name" "$datadir" "" data --option "local_args=$(stage_py data_options -- "$local_args")" "${only[@]}" --corpus "${corpus_words[@]}"
}
data() {
  if $dry_run; then echo "lists only, some 500 bytes for each recording"; return; fi
  run bash local/data.sh --datadir "$datadir" --nj "$nj" ${sets:+--sets "$sets"} "${local_words[@]}"
}

from=() clips=
mixed_from() { # mixed_from SET: what the set depends on, as options of unit, into `from`; its size into `clips`
  local sets
  [ -f "conf/mix_$1.yaml" ] || die "conf/mix_$1.yaml: missing; it says how the set '$1' is made"
  clips=$(tr ' ' '\n' <<< "$num_clips" | sed -n "s/^$1=//p" | tail -n 1)
  sets=$(stage_py sources "conf/mix_$1.yaml" "$datadir" -- "$mix_args")
  # shellcheck disable=SC2206
  from=(--input '' "conf/mix_$1.yaml" --input "1 (data)" $sets --option "sample_rate=$sample_rate" --option "mix_args=$mix_args"
    --option "num_clips=$clips")
}

stage_mix() {
  local set root
  for set in $(tr -s ' ' '\n' <<< "$stored_set $valid_set $test_sets" | awk 'NF && !seen[$0]++'); do
    root=$dumpdir/raw/$set
    mixed_from "$set"
    unit mix "$root" "plan.tsv wav.scp utt2num_samples" mix "${from[@]}"
  done
}
mix() {
  local command=(python -m senet.bin.mix --config "conf/mix_$set.yaml" --data "$datadir" --out "$root"
    --sample_rate "$sample_rate" ${clips:+--num_clips "$clips"} "${mix_words[@]}")
  if $dry_run; then "${command[@]}" --dry_run; return; fi
  run "${command[@]}" --plan
  array "$root/plan.tsv" 128 "$root/logdir/mix.JOB.log" "${command[@]}"
  run "${command[@]}" --collect
}
samples() { # those of the set that `set` names, into `samples`, and "about " into `about` where they are estimated
  local mixed=${said["mix $dumpdir/raw/$set"]:-}
  about=
  [[ $mixed != *": about "* ]] || about="about "
  samples=$(disk_py samples "$dumpdir/raw/$set" "$mixed" 2>&1) || { echo "${samples#error: }" && return 1; }
}

stage_feats() {
  local set root
  for set in $stored_set $valid_set; do
    root=$dumpdir/$feats_type/$set
    unit feats "$root" "wav.scp utt2num_samples" feats --option "feats_type=$feats_type" --option "feats_args=$feats_args" \
      --input "2 (mix)" "$dumpdir/raw/$set/wav.scp" "$dumpdir/raw/$set/utt2num_samples" "$dumpdir/raw/$set/.stages/mix.json"
  done
}
feats() {
  local command=(python -m senet.bin.feats --feats_type "$feats_type" --src "$dumpdir/raw/$set" --out "$root" "${feats_words[@]}")
  if $dry_run; then
    samples || return 0
    "${command[@]}" --sample_rate "$sample_rate" --dry_run "$samples" | sed "s/: /&$about/"
    return
  fi
  array "$dumpdir/raw/$set/wav.scp" 128 "$root/logdir/feats.JOB.log" "${command[@]}"
  run "${command[@]}" --collect
}

stage_train() {
  local train=$dumpdir/$feats_type/$train_set valid=$dumpdir/$feats_type/$valid_set maker="3 (feats)"
  [ -z "$expected" ] || check_noisy
  [ "$feats_type" != raw ] || maker="2 (mix)"
  if $online; then
    train=conf/mix_$train_set.yaml
    mixed_from "$train_set"
  else
    from=(--input "$maker" "$train/wav.scp" --input "3 (feats)" "$train/.stages/feats.json")
  fi
  unit train "$exp" "checkpoints/index.json config.yaml" train --experiment --option "train_args=$train_args" --input '' "$train_config" \
    "${from[@]}" --input "$maker" "$valid/wav.scp" --input "3 (feats)" "$valid/.stages/feats.json"
}
check_noisy() { # the input scores as is published, or else nothing is trained on it
  local set root noisy enhanced forced=
  find_versions
  for set in $test_sets; do
    score_noisy
    unit check "$noisy" "" check --input '' "$expected" --input "6 (score)" "$noisy/summary.json"
  done
}
check() { $dry_run || score --expected "$expected"; }
train() {
  local log=$exp/logdir/train.log online_words=() where=(--num-threads "$num_threads") split code=0 command
  if [ "$num_nodes" -gt 1 ]; then # a task for each process
    [[ $cuda_cmd != @(run|ssh).py* ]] || die "--num_nodes $num_nodes: '$cuda_cmd' runs a training on one machine; use SENET_CMD_BACKEND=slurm"
    where=(--num-nodes "$num_nodes" --num-threads "$((num_threads > ngpu && ngpu > 0 ? num_threads / ngpu : num_threads))")
  fi
  if $online; then
    split=$(stage_py mix_conf -- "$mix_args${clips:+ --num_clips $clips}") || return
    mapfile -t online_words <<< "--data"$'\n'"$datadir${split:+$'\n'$split}"
  fi
  command=(python -m senet.bin.train --config "$train_config" --train "$train" --valid "$valid" --feats_type "$feats_type"
    --expdir "$exp" --ngpu "$ngpu" --num_threads "$num_threads" ${num_workers:+--num_workers "$num_workers"}
    "${online_words[@]}" "${train_words[@]}")
  if $dry_run; then # the GPUs of a cluster are not to be seen from here
    [[ $cuda_cmd == run.py* ]] || command+=(--ngpu 0)
    "${command[@]}" --dry_run
    return
  fi
  rm -f "$log"
  log "log in $log"
  # shellcheck disable=SC2154
  child='' script=false
  SENET_LOG_SHOWN=true $cuda_cmd --gpu "$ngpu" "${where[@]}" "$log" "${command[@]}" &
  child=$!
  tail --pid="$child" -s 0.2 -n +1 -F "$log" 2> /dev/null | sed -u '/^#\( \|$\)/d; /^error: /,$d' & # shows how it goes
  wait "$child" || code=$?
  wait
  # Why it ended, at the end; a scheduler that refuses it says so itself.
  [ "$code" -eq 0 ] || [ ! -f "$log" ] || sed -n '/^#\( \|$\)/d; /^error: /,$p' "$log" >&2
  return "$code"
}

# systems: the folders that stages 5 and 6 fill: the experiment, and in it one for each of its last checkpoints.
systems=()
declare -A checkpoint_of digest_of # of a folder: the checkpoint's file and its SHA-256
find_systems() {
  local found folder file digest
  systems=("$exp")
  [ "$score_checkpoints" -gt 0 ] || return 0
  if ! found=$(stage_py checkpoints "$exp" "$score_checkpoints" 2>&1); then
    $list || $dry_run || die "stage $k: --score_checkpoints: ${found#error: }"
    printf '%s %-9s %-36s %s\n' "$k" "${names[k]}" "$exp/step_*" "missing input: ${found#error: }"
    return
  fi
  while read -r folder file digest; do
    systems+=("$exp/$folder")
    checkpoint_of[$exp/$folder]=$file digest_of[$exp/$folder]=$digest
  done <<< "$found"
}

doubts() { # what was found wrong before, and is no reason to stop
  local set found
  found=$(stage_py unfinished "${model:-$exp}")
  [ -z "$found" ] || log "WARNING: ${model:-$exp}: its training is not finished ($found); the checkpoint that is there is used"
  for set in $test_sets; do
    if [ -n "$expected" ] && grep -qs '"failed": true' "$expdir/noisy/enhanced_$set/.stages/check.json"; then
      log "WARNING: $set: the noisy input did not score as $expected says (stage 4); other scores of this set are as doubtful"
    fi
  done
}
stage_enhance() {
  local set system root source
  find_systems
  doubts
  for set in $test_sets; do
    for system in "${systems[@]}"; do
      root=$system/enhanced_$set
      source=(--input "4 (train)" "$exp/checkpoints/index.json")
      [ -z "$model" ] || source=(--input '' "$model/checkpoints/index.json" "$model/config.yaml")
      [ ! -f "$model" ] || source=(--input '' "$model") # a pack
      [ "$system" = "$exp" ] || source=(--option "checkpoint=${digest_of[$system]}") # other checkpoints may come and go
      unit enhance "$root" wav.scp enhance --option "enhance_args=$enhance_args" "${source[@]}" \
        --input "2 (mix)" "$dumpdir/raw/$set/wav.scp" "$dumpdir/raw/$set/.stages/mix.json"
    done
  done
}
enhance() {
  local command=(python -m senet.bin.enhance "$dumpdir/raw/$set/wav.scp" -o "$root" --model "${model:-$exp}"
    "${enhance_words[@]}")
  local train_cmd=${decode_cmd:?} samples about
  if $dry_run; then
    ! samples || echo "$root: $about$((2 * samples)) bytes"
    return
  fi
  [ -z "$model" ] || stage_py borrow "$model" "$exp"
  [ "$system" = "$exp" ] || command+=(--checkpoint "${checkpoint_of[$system]}")
  array "$dumpdir/raw/$set/wav.scp" 32 "$root/logdir/enhance.JOB.log" "${command[@]}"
  run "${command[@]}" --collect
}

scored_by=() # what scores depend on; one whose model or package was missing is computed when that is there
find_versions() {
  local found version
  [ ${#scored_by[@]} -eq 0 ] || return 0
  scored_by=(--option "metrics=$metrics" --option "score_args=$score_args")
  # shellcheck disable=SC2086
  found=$(python -m senet.bin.score --versions $metrics) || die "--metrics \"$metrics\": see above"
  while read -r version; do scored_by+=(--option "version=$version"); done <<< "$found"
}

stage_score() {
  local set system root noisy enhanced
  find_systems
  [[ " ${chosen[*]} " == *" 5 "* ]] || doubts
  find_versions
  for set in $test_sets; do
    score_noisy
    for system in "${systems[@]}"; do
      root=$system/enhanced_$set enhanced=$system/enhanced_$set/wav.scp
      unit score "$root" summary.json score --keep shards "${scored_by[@]}" --input "5 (enhance)" "$enhanced" \
        "$root/.stages/enhance.json" --input "6 (score)" "$noisy/summary.json" "$noisy/.stages/score.json" --corpus "$root/wav"
    done
  done
}
score_noisy() { # the unprocessed input of a set is scored like a system
  noisy=$expdir/noisy/enhanced_$set root=$expdir/noisy/enhanced_$set enhanced=$dumpdir/raw/$set/wav.scp
  unit score "$root" summary.json score --keep shards "${scored_by[@]}" --input "2 (mix)" "$enhanced" "$dumpdir/raw/$set/.stages/mix.json"
}
score() { # with further words it only collects
  local command=(python -m senet.bin.score --enhanced "$enhanced" --ref "$dumpdir/raw/$set" --out "$root" --metrics "$metrics"
    "${score_words[@]}")
  if $dry_run; then echo "0 bytes"; return; fi
  if [ "$root" != "$noisy" ]; then command+=(--noisy_scores "$noisy"); fi
  [ $# -gt 0 ] || array "$dumpdir/raw/$set/wav.scp" 32 "$root/logdir/score.JOB.log" "${command[@]}"
  run "${command[@]}" --collect "$@"
}

stage_report() {
  local outputs=("$results" "$expdir/results.csv" "$expdir/results.json" "$expdir/report.html") published=()
  if $list || $dry_run; then
    echo "$k report    always made anew: ${outputs[*]}"
    ask report "$expdir" new echo "0 bytes"
    return
  fi
  [ ! -f published.yaml ] || published=(--published published.yaml)
  run python -m senet.bin.compare "$expdir"/*/ "${compare_words[@]}" ${baseline:+--baseline "$baseline"} \
    "${published[@]}" --out "${outputs[@]}"
  cat "$results"
  log "table: $(realpath "$results"); the same to look at and listen to: $(realpath "$expdir/report.html")"
  [ ! -d "$exp" ] || log "model: $(realpath "$exp"); in it enhanced_<set>/wav: enhanced audio, enhanced_<set>/scores: scores per utterance"
}

stage_pack() { # with the weights that stage 5 took, and their scores
  local set source=(--input "4 (train)" "$exp/checkpoints/index.json" "$exp/config.yaml")
  for set in $test_sets; do source+=(--input "6 (score)" "$exp/enhanced_$set/summary.json"); done
  unit pack "$exp" "${exp##*/}.senet" pack --option "pack_args=$pack_args" "${source[@]}"
}
pack() {
  local command=(python -m senet.bin.pack "$exp" -o "$exp/${exp##*/}.senet" --overwrite "${pack_words[@]}")
  if $dry_run; then "${command[@]}" --dry_run; return; fi
  run "${command[@]}"
}

$list || $dry_run || log "stages $stage (${names[stage]}) to $stop_stage (${names[stop_stage]}), experiment $exp, $nj jobs through '$train_cmd'"
chosen=() forced=$($force && echo true || true)
for k in $(seq "$stage" "$stop_stage"); do
  case $k in [0-3]) skip=$skip_data_prep ;; 4) skip=$skip_train ;; *) skip=$skip_eval ;; esac
  [ -z "$model" ] || [ "$k" -lt 8 ] || skip=true # a pack is made where it was trained
  $skip || chosen+=("$k")
done
[ ${#chosen[@]} -gt 0 ] || die "nothing to do: stages $stage to $stop_stage are left out by --skip_... or --model (which trains nothing)"
k=
[ -z "$model" ] || [ "$config_given" -lt 2 ] || log "--train_config $train_config is not used: --model says with what is enhanced"
if $list || $dry_run; then
  missing_corpus
else
  # shellcheck disable=SC2046 # before anything long runs; stage 1 would read the whole corpus to say little
  fits $(printf '%s\n' "${chosen[@]}" | grep -v '^1$')
fi
shown=()
for k in "${chosen[@]}"; do
  shown+=("$k ${names[k]}")
  started=$SECONDS worked=false
  $list || $dry_run || [[ $k != [235] ]] || fits "$k"
  "stage_${names[k]}"
  ! $worked || log "stage $k (${names[k]}) took $((SECONDS - started)) s"
done
k=
! $dry_run || printf '%s\n' "${needs[@]}" | disk_py table "${shown[@]}"
exit
}
