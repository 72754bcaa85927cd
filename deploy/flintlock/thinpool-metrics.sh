#!/usr/bin/env bash
# How full the thin pool of this host is, as metrics for the textfile collector of Prometheus' node_exporter:
# a thin pool that is full makes guests' disks fail, and Flintlock does not tell.
#
#   thinpool-metrics.sh [FILE]   writes FILE in one step; to standard output without one
#
# For example each minute, by a line in /etc/cron.d/firerunner-thinpool:
#   * * * * * root /opt/firerunner/thinpool-metrics.sh /var/lib/prometheus/node-exporter/firerunner.prom
set -euo pipefail

GROUP=${GROUP:-firerunner}

metrics() {
    local data="" metadata=""
    IFS=, read -r data metadata < <(lvs --noheadings --separator , -o data_percent,metadata_percent "$GROUP/thinpool") || true
    [[ "${data// /}" =~ ^[0-9.]+$ && "${metadata// /}" =~ ^[0-9.]+$ ]] || {
        echo "lvs says nothing of $GROUP/thinpool; GROUP names its volume group" >&2
        exit 1
    }
    echo "# HELP firerunner_thinpool_used_ratio How much of the thin pool is used, 0 to 1."
    echo "# TYPE firerunner_thinpool_used_ratio gauge"
    sample data "$data"
    sample metadata "$metadata"
}

sample() { # PART PERCENT
    awk -v group="$GROUP" -v part="$1" -v percent="$2" \
        'BEGIN { printf "firerunner_thinpool_used_ratio{group=\"%s\",part=\"%s\"} %.4f\n", group, part, percent / 100 }'
}

if [ $# = 0 ]; then
    metrics
else
    trap 'rm -f "$1.$$"' EXIT
    metrics > "$1.$$"
    chmod 644 "$1.$$"
    mv "$1.$$" "$1"
fi
