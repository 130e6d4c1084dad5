# shellcheck shell=bash
# Turns the caller's variables into command-line options. Source it after the defaults are set:
#
#   nj=4; tag=; force=false          # each variable that exists is an option
#   help_message="Usage: $0 [--nj N] [--tag NAME] [--force]"
#   . parse_options.sh               # afterwards "$@" holds what is left
#
# --foo-bar V and --foo_bar V set foo_bar. A variable that is true or false takes only these, and
# the bare --force means true. --config FILE is sourced before the other options are assigned, so
# the command line wins over it. Parsing stops at the first word that is not an option.
# --help calls the function `usage` where there is one, or prints $help_message.
#
# With parse_options_known_only=true set beforehand, options that the caller does not have, --help
# and all other words stay in "$@" (for a script that hands them on to the next, which then suggests its options, too).

__po_fail() {
  echo "${0##*/}: $1" >&2
  exit 1
}

# In the known-only mode: keeps the words for the caller and succeeds.
__po_keep() {
  [ "$__po_known_only" = true ] && __po_rest+=("$@")
}

# Prints the variables whose names are close to $1, the closest first: " (did you mean --nj?)".
__po_suggest() {
  # shellcheck disable=SC2086 # names separated by blanks
  { compgen -v && printf '%s\n' ${parse_options_elsewhere:-}; } | awk -v given="$1" '
    function min(a, b) { return a < b ? a : b }
    function distance(a, b,   i, j, d) {
      for (j = 0; j <= length(b); j++) d[0, j] = j
      for (i = 1; i <= length(a); i++) {
        d[i, 0] = i
        for (j = 1; j <= length(b); j++)
          d[i, j] = min(min(d[i-1, j], d[i, j-1]) + 1, d[i-1, j-1] + (substr(a, i, 1) != substr(b, j, 1)))
      }
      return d[length(a), length(b)]
    }
    length(given) > 1 && /^[a-z]/ && !seen[$0]++ && $0 !~ /^(help_message|parse_options_.*)$/ {
      n = distance(given, $0)
      if (index($0, given) == 1) n = min(n, 2)
      if (n <= 2 || n <= length(given) / 3) print n, "--" $0
    }' | sort -n | head -n 3 | awk '{ s = s (NR > 1 ? ", " : "") $2 } END { if (NR) print " (did you mean " s "?)" }'
}

__po_names=()
__po_values=()
__po_rest=()
__po_help=false
__po_known_only=${parse_options_known_only:-false}
unset -v parse_options_known_only

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      if __po_keep "$1"; then shift && continue; fi
      __po_help=true
      break
      ;;
    --*=*)
      if __po_keep "$1"; then shift && continue; fi
      __po_fail "write '${1%%=*} ${1#*=}' instead of '$1'"
      ;;
    --*)
      __po_name=${1#--}
      __po_name=${__po_name//-/_}
      if [ "$__po_name" != config ] && ! { [[ $__po_name =~ ^[a-zA-Z][a-zA-Z0-9_]*$ ]] && [ -n "${!__po_name+set}" ]; }; then
        if __po_keep "$1"; then shift && continue; fi
        __po_fail "unknown option $1$(__po_suggest "$__po_name"); --help lists the options"
      fi
      if [ "$__po_name" != config ] && [[ ${!__po_name} =~ ^(true|false)$ ]]; then
        case ${2---} in
          true | false) ;;
          -*)
            __po_names+=("$__po_name")
            __po_values+=(true)
            shift
            continue
            ;;
          *) __po_fail "option $1 is true or false, not '$2'" ;;
        esac
      fi
      # What begins with -- is the next option, where a value was forgotten; only options for other commands look so.
      if [ $# -lt 2 ] || [[ $2 == --* && $__po_name != *_args ]]; then __po_fail "option $1 needs a value"; fi
      if [ "$__po_name" = config ]; then
        [ -f "$2" ] && [ -r "$2" ] || __po_fail "--config: cannot read '$2'"
        # shellcheck disable=SC1090
        case $2 in */*) . "$2" ;; *) . "./$2" ;; esac
        __po_keep "$1" "$2" || true
      else
        __po_names+=("$__po_name")
        __po_values+=("$2")
      fi
      shift 2
      ;;
    *)
      __po_keep "$1" || break
      shift
      ;;
  esac
done

for __po_i in "${!__po_names[@]}"; do
  printf -v "${__po_names[__po_i]}" %s "${__po_values[__po_i]}"  # no evaluation: $(...) stays text
done
if [ "$__po_help" = true ]; then # here, so that `usage` can show the values that a recipe gives before "$@"
  if declare -F usage > /dev/null; then usage; else printf '%s\n' "${help_message:-}"; fi
  exit 0
fi
if [ -n "${cmd+set}" ] && [ -z "$cmd" ]; then
  __po_fail "the variable cmd is empty; is cmd.sh sourced?"
fi
unset -v parse_options_elsewhere
if [ "$__po_known_only" = true ]; then
  set -- "${__po_rest[@]}"
  parse_options_elsewhere=$(compgen -v | grep '^[a-z]' || true)
  export parse_options_elsewhere
fi
unset -f __po_fail __po_keep __po_suggest
unset -v __po_i "${!__po_@}"
