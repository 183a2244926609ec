#!/bin/sh
# What does the tour show? Runs every command of docs/tour.md, in order, in a temporary folder, and
# writes the pictures to docs/tour-*.png. Takes about eight minutes with one thread; what the
# commands print is what the tour prints.
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

# The commands as they stand in the tour, after the prompt: nothing is written twice.
sed -n 's/^\$ \(charnn .*\)/\1/p' "$root/docs/tour.md" >"$folder/commands"
cd "$folder"
set -x
. ./commands
{ set +x; } 2>/dev/null
for picture in *.png; do
    cp "$picture" "$pictures/tour-$picture"
done
