# shellcheck shell=bash disable=SC2154
# Sourced by the local/download.sh of recipes that fetch archives by a list, after parse_options.sh. It uses the options
# download, dry_run, part, downloads, url, archives and keep_archives.

fetch_archives() { # FOLDER...: folders of the corpus; where all are there, nothing is said unasked
  local folder missing='' flags=()
  if $keep_archives; then flags+=(--keep_archives); fi
  if $dry_run; then flags+=(--dry_run); fi
  if ! $download && $dry_run; then
    for folder in "$@"; do
      if [ ! -d "$folder" ]; then
        # shellcheck disable=SC2086 # names of parts
        missing=$(python -m senet.bin.fetch "$archives" --downloads "$downloads" --part $part --url "$url" "${flags[@]}") || true
        echo "$downloads: nothing is fetched without '--download true' (it would take:${missing##*:})"
        return
      fi
    done
    echo "$downloads: 0 bytes"
    return
  elif ! $download; then
    for folder in "$@"; do [ -d "$folder" ] || missing+=" $folder"; done
    if [ -z "$missing" ]; then return; fi # stage 1 looks into them
    echo "$0: not there:$missing; and nothing is fetched without '--download true', which takes:"
    flags+=(--dry_run)
  fi
  # shellcheck disable=SC2086 # names of parts
  python -m senet.bin.fetch "$archives" --downloads "$downloads" --part $part --url "$url" "${flags[@]}" || ! $download
}
