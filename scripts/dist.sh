#!/usr/bin/env bash
# dist.sh PYTHON DIRECTORY: wheel, sdist and lock of the last commit, and their SHA256SUMS. PYTHON has hatchling.
# The same commit gives the same bytes: nothing of the work tree gets in, and the commit's date is every file's date.
set -euo pipefail
umask 022

python=$(command -v "$1") || { echo "there is no $1" >&2; exit 2; }
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
mkdir -p "$2"
dist=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
trap 'exit 130' INT TERM

commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain)" ] || echo "note: what is not committed is not in it" >&2
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct HEAD)
export SOURCE_DATE_EPOCH
git archive HEAD | tar -x -C "$tree"
rm -f "$dist"/firerunner-* "$dist"/SHA256SUMS
(cd "$tree" && "$python" -m hatchling build -d "$dist" > /dev/null)
wheel=$(cd "$dist" && echo firerunner-*.whl)
cp "$tree/requirements/run.lock" "$dist/${wheel%-py3-none-any.whl}.lock"
(cd "$dist" && sha256sum firerunner-* > SHA256SUMS && echo "$commit:" && cat SHA256SUMS)
