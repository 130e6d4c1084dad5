# shellcheck shell=bash disable=SC2154
# Sourced by the local/download.sh of recipes that fetch archives by a list, after parse_options.sh. It uses the options
# download, dry_run, part, downloads, url, archives and keep_archives.

fetch_archives() { # FOLDER...: folders of the corpus; where all are there, nothing is said unasked
  local folder missing='' flags=()
  if $keep_archives; then flags+=(--keep_archives); fi
  if $dry_run; then flags+=(--dry_run); fi
  if ! $download && $dry_run; then
    # shellcheck disable=SC2086 # names of parts
    for folder in "$@"; do
      [ -d "$folder" ] || missing=" (it would take:$(python -m senet.bin.fetch "$archives" --downloads "$downloads" --part $part \
        --url "$url" "${flags[@]}" | tail -n 1 | cut -d: -f2- || true))"
    done
    echo "$downloads: nothing is fetched without '--download true'$missing"
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
