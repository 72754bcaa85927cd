#!/usr/bin/env bash
# Counts the words and lines of a file.
set -euo pipefail
echo "words=$(wc -w <"$1")"
echo "lines=$(wc -l <"$1")"
