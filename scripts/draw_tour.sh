#!/bin/sh
# What do the commands of docs/tour.md print and draw today? Runs them in order in a temporary folder,
# prints their output, and writes their pictures to docs/tour-*.png or to OTHER_FOLDER. Takes about
# eight minutes with one thread.
#
#     OMP_NUM_THREADS=1 sh scripts/draw_tour.sh
#     sh scripts/draw_tour.sh OTHER_FOLDER
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
pictures=$(cd "${1:-$root/docs}" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
export PYTHONPATH="$root"
charnn() { "${PYTHON:-python}" -m charnn "$@"; }

# The commands are the lines of the tour that begin with a prompt.
sed -n 's/^\$ \(charnn .*\)/\1/p' "$root/docs/tour.md" >"$folder/commands"
cd "$folder"
set -x
. ./commands
{ set +x; } 2>/dev/null
for picture in *.png; do
    cp "$picture" "$pictures/tour-$picture"
done
