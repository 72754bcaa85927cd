#!/bin/bash
# Installs FireRunner on Debian 12 or 13, Ubuntu 22.04 or 24.04 (x86_64), upgrades it, and removes it.
#
#   sudo ./install.sh                      say what will be done, ask, do it; run again: upgrade, or nothing
#   ./install.sh --dry-run                 only say what would be done
#   sudo ./install.sh --yes                ask nothing
#   sudo ./install.sh --wheel dist/firerunner-1.2.0-py3-none-any.whl
#                                          install this wheel; its SHA-256 is in SHA256SUMS beside it,
#   sudo ./install.sh --wheel FILE --sha256 HEX                                  or given here
#   sudo ./install.sh --no-restart         upgrade, but let the running service run on as it is
#   sudo ./install.sh --uninstall          remove program, units and links; keep what is yours
#   sudo ./install.sh --uninstall --purge  remove configuration, ledger, images, logs and user as well
#   ./install.sh --help
#
# What it makes: packages of the distribution; the user firerunner; /opt/firerunner/VERSION-DIGEST, a virtual
# environment of locked packages, each with its SHA-256; /opt/firerunner/current, a link to it, and `previous`;
# /usr/local/bin/firerunner; /etc/firerunner; units in /etc/systemd/system. It never starts a service that was
# not running, and never changes a configuration that is there. See docs/install.md.
#
# Exit status: 0 done, or nothing to do; 1 failed, and what was in force before still is; 2 wrong usage, an
# unsupported computer, or not root: nothing was done; 130 interrupted, like 1.
set -euo pipefail

HERE=$(dirname "$(readlink -f "$0")")
OPT=/opt/firerunner
LINK=/usr/local/bin/firerunner
ETC=/etc/firerunner
STATE=/var/lib/firerunner
LOGS=/var/log/firerunner
UNIT_DIR=/etc/systemd/system
UNITS=(firerunner-gate.socket firerunner-web.socket firerunner.service)
APPARMOR=/etc/apparmor.d/firerunner
RESTRICTED=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
LOCK=/run/firerunner-install.lock
OWNER=firerunner
PACKAGES=(ca-certificates e2fsprogs lz4 mmdebstrap nftables procps qemu-system-x86)
NEEDED_MIB=400   # the virtual environment, twice over for what pip unpacks on the way
PACKAGES_MIB=900 # qemu-system-x86 and what it depends on, with the downloads
COMPLETE=.complete
KEEPER='-m firerunner.machines.qemu.keeper'
FINISH="Let them end: firerunner drain HOST, for each host of \`firerunner hosts\`; then run again"

dry_run='' yes='' uninstall='' purge='' restart=yes wheel='' sha256=''
doing=''  # what was agreed to, once it has begun
target='' # the version directory that this run is making
child=''  # the process group that this run waits for
log=''

main() {
    umask 022
    read_flags "$@"
    if [ -n "$uninstall" ]; then
        require_root
        take_turn
        remove_all
    else
        check_computer
        require_root
        take_turn
        install_all
    fi
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \?//p}' "$0"
}

say() {
    echo "install.sh: $*"
}

refuse() { # WHAT REMEDY: nothing has been done
    echo "install.sh: $1. $2" >&2
    exit 2
}

fail() { # WHAT REMEDY
    echo "install.sh: $1. $2" >&2
    exit 1
}

read_flags() {
    while [ $# -gt 0 ]; do
        case $1 in
            --dry-run) dry_run=yes ;;
            --yes | -y) yes=yes ;;
            --uninstall) uninstall=yes ;;
            --purge) purge=yes ;;
            --no-restart) restart='' ;;
            --wheel | --sha256)
                [ $# -ge 2 ] || refuse "$1 needs a value" "See --help"
                if [ "$1" = --wheel ]; then wheel=$2; else sha256=$2; fi
                shift
                ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) refuse "there is no option $1" "See --help" ;;
        esac
        shift
    done
    [ -z "$purge" ] || [ -n "$uninstall" ] || refuse "--purge goes with --uninstall" "See --help"
    [ -z "$sha256" ] || [ -n "$wheel" ] || refuse "--sha256 goes with --wheel" "See --help"
    [ -z "$wheel" ] || [ -z "$uninstall" ] || refuse "--wheel does not go with --uninstall" "See --help"
}

require_root() {
    [ "$(id -u)" = 0 ] || [ -n "$dry_run" ] || refuse "this needs root" "Run: sudo $0, or look first: $0 --dry-run"
}

check_computer() {
    local supported="Supported are Debian 12 and 13, Ubuntu 22.04 and 24.04 on x86_64"
    [ -r /etc/os-release ] || refuse "there is no /etc/os-release" "$supported"
    # shellcheck source=/dev/null
    system=$(. /etc/os-release && echo "${ID:-} ${VERSION_ID:-}")
    case $system in
        "debian 12" | "debian 13" | "ubuntu 24.04") python=python3 ;;
        "ubuntu 22.04") python=python3.11 ;; # its python3 is 3.10, which is too old
        " ") refuse "this is no system that says its name" "$supported" ;;
        *) refuse "this is $system" "$supported" ;;
    esac
    [ "$(uname -m)" = x86_64 ] || refuse "this is $(uname -m)" "$supported"
    PACKAGES+=("$python" "$python-venv")
    if is_restricted; then PACKAGES+=(apparmor); fi
}

take_turn() {
    [ -z "$dry_run" ] || return 0
    exec 9> "$LOCK"
    flock --nonblock 9 || refuse "another install.sh runs" "Wait for it"
    trap 'finish $?' EXIT
    trap 'exit 130' INT TERM HUP
}

finish() { # STATUS: nothing half made stays, whatever has ended us
    trap '' INT TERM HUP
    if [ -n "$child" ]; then
        kill -KILL -- "-$child" 2> /dev/null || true
        wait "$child" 2> /dev/null || true
    fi
    if [ -n "$target" ]; then
        rm -rf "$target"
        if [ "$1" != 0 ]; then echo "install.sh: $target was removed again; $(in_force)." >&2; fi
    fi
    if [ "$1" = 130 ] && [ -n "$doing" ]; then
        echo "install.sh: interrupted while $doing. What was done stays; run it again to go on" >&2
    elif [ "$1" = 130 ]; then
        printf '\ninstall.sh: interrupted. Nothing was done\n' >&2
    fi
    rm -f "$log" "$OPT/current.new" "$OPT/previous.new" "$LINK.new"
    rmdir "$OPT" 2> /dev/null || true
}

in_force() {
    local now
    now=$(readlink "$OPT/current" 2> /dev/null) && echo "in force is ${now##*/} as before" || echo "nothing is in force"
}

# What is to be installed -----------------------------------------------------------------------------------

find_source() {
    local file
    for file in pyproject.toml requirements/run.lock requirements/build.lock deploy/systemd/firerunner.service; do
        [ -r "$HERE/$file" ] || refuse "there is no $HERE/$file" "Run install.sh where the release was unpacked"
    done
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$HERE/pyproject.toml")
    [ -n "$version" ] || refuse "$HERE/pyproject.toml names no version" "Unpack the release again"
    if [ -n "$wheel" ]; then check_wheel; fi
    name=$version-$(digest | cut -c 1-12)
}

check_wheel() {
    local listed
    [ -r "$wheel" ] || refuse "there is no $wheel" "--wheel names a file"
    case ${wheel##*/} in
        "firerunner-$version-py3-none-any.whl") ;;
        *) refuse "$wheel is not version $version, which this install.sh and its lock are of" "Take both of one release" ;;
    esac
    if [ -z "$sha256" ]; then
        listed=$(dirname "$wheel")/SHA256SUMS
        [ -r "$listed" ] || refuse "nothing says what $wheel should be" "Put SHA256SUMS beside it, or give --sha256"
        sha256=$(awk -v file="${wheel##*/}" '$2 == file || $2 == "*" file { print $1 }' "$listed")
        [ -n "$sha256" ] || refuse "$listed does not name ${wheel##*/}" "Get both of one release"
    fi
    echo "$sha256  $wheel" | sha256sum --check --quiet > /dev/null 2>&1 ||
        refuse "$wheel has another SHA-256 than $sha256" "Do not use it; fetch it again"
}

digest() { # Of all that the version directory is made of
    {
        echo "$python"
        cat "$HERE/requirements/run.lock"
        if [ -n "$wheel" ]; then
            cat "$wheel"
        else
            cat "$HERE/requirements/build.lock" "$HERE/pyproject.toml" "$HERE/README.md"
            cd "$HERE" && find src/firerunner -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        fi
    } | sha256sum
}

# Install and upgrade ---------------------------------------------------------------------------------------

install_all() {
    find_source
    plan
    if [ ${#steps[@]} = 0 ]; then
        say "$name is already installed; nothing to do"
        return 0
    fi
    agree_to "${steps[@]}"
    [ -z "$dry_run" ] || return 0
    check_space
    doing='installing'
    add_packages
    add_user
    make_version
    make_etc
    restart_needed='' sockets_changed=''
    install_units
    switch
    remove_old_versions
    start_or_tell
}

plan() { # What is missing, as sentences
    local file source
    refuse_what_is_made_by_hand
    steps=()
    missing=()
    for file in "${PACKAGES[@]}"; do
        is_installed "$file" || missing+=("$file")
    done
    [ ${#missing[@]} = 0 ] || steps+=("install packages with apt: ${missing[*]}")
    has_user || steps+=("make the system user $OWNER")
    [ -e "$OPT/$name/$COMPLETE" ] ||
        steps+=("make $OPT/$name: a virtual environment, each package checked by its SHA-256${wheel:+, and $wheel}")
    [ -d "$ETC" ] || steps+=("make $ETC with config.yaml.example, for root to write and $OWNER to read")
    while read -r file source; do
        cmp -s "$source" "$file" || steps+=("write $file")
    done < <(unit_files)
    is_in_force || steps+=("let $OPT/current point to $name${previous:+; $previous stays as previous}")
    [ "$(readlink "$LINK" 2> /dev/null)" = "$OPT/current/bin/firerunner" ] || steps+=("link $LINK")
    if [ -n "$restart" ] && serves_another; then steps+=("take the running service from $served to $name"); fi
    if [ ${#steps[@]} -gt 0 ] && is_active; then
        if [ -n "$restart" ]; then
            steps+=("copy $STATE/ledger.db to ledger.db.before-upgrade, if it is there, and restart the service; jobs run on")
        else
            steps+=("leave the service running as it is, as --no-restart says")
        fi
    fi
}

refuse_what_is_made_by_hand() {
    [ ! -e "$OPT/pyvenv.cfg" ] || refuse "$OPT is a virtual environment that was made by hand" "Move it elsewhere first"
    if [ -e "$UNIT_DIR/firerunner.service" ] && ! grep -q '^User=' "$UNIT_DIR/firerunner.service" && has_machines; then
        refuse "microVMs of a service that runs as root are here, which the user $OWNER could not adopt" "$FINISH"
    fi
}

has_machines() {
    processes_of "$KEEPER" > /dev/null
}

is_installed() {
    [ "$(dpkg-query -W -f '${Status}' "$1" 2> /dev/null)" = "install ok installed" ]
}

has_user() {
    getent passwd "$OWNER" > /dev/null
}

is_in_force() {
    previous=$(readlink "$OPT/current" 2> /dev/null || true)
    [ "$previous" = "$name" ]
}

unit_files() { # DESTINATION SOURCE lines; there may be spaces in the source
    local unit
    for unit in "${UNITS[@]}"; do echo "$UNIT_DIR/$unit $HERE/deploy/systemd/$unit"; done
    if is_restricted; then echo "$APPARMOR $HERE/deploy/systemd/apparmor"; fi
}

is_restricted() { # Debian's kernels from 6.7 on have the switch and do not use it; older AppArmor knows no such rule
    [ "$(cat "$RESTRICTED" 2> /dev/null)" = 1 ]
}

has_systemd() {
    [ -d /run/systemd/system ]
}

is_active() {
    has_systemd && systemctl is-active --quiet firerunner.service
}

serves_another() { # Whether the running service was started from another version, which is then in $served
    local pid
    served=''
    is_active || return
    pid=$(systemctl show --property MainPID --value firerunner.service)
    served=$(tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline" | sed -n "s|^$OPT/\([^/ ]*\)/bin/python.*|\1|p") || true
    [ -n "$served" ] && [ "$served" != "$name" ]
}

agree_to() { # SENTENCES
    local answer=''
    if [ -n "$dry_run" ]; then say "would:"; else say "will:"; fi
    printf '  - %s\n' "$@"
    if [ -n "$dry_run$yes" ]; then return 0; fi
    [ -t 0 ] || refuse "nobody is there to be asked" "Give --yes, or --dry-run"
    read -r -p "Go on? [y/N] " answer || true # the end of the input is a no
    case $answer in
        y | Y | yes) ;;
        *) refuse "not wanted" "Nothing was done" ;;
    esac
}

check_space() {
    local mib
    if [ ! -e "$OPT/$name/$COMPLETE" ]; then require_mib "$(existing "$OPT")" "$NEEDED_MIB"; fi
    if [ ${#missing[@]} -gt 0 ]; then
        mib=$PACKAGES_MIB
        require_mib /usr "$mib"
        require_mib /var "$mib"
    fi
}

existing() { # The nearest directory above that is there
    local path=$1
    until [ -d "$path" ]; do path=$(dirname "$path"); done
    echo "$path"
}

require_mib() { # DIRECTORY MIB
    local free
    free=$(df --output=avail --block-size=1M "$1" | tail -n 1 | tr -d ' ')
    [ "$free" -ge "$2" ] || refuse "$1 has $free MiB free, and $2 MiB are needed" "Free some space"
}

add_packages() {
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing with apt: ${missing[*]}"
    {
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}"
    } < /dev/null || fail "apt could not install ${missing[*]}" "See above; nothing but packages was changed. Mend it and run again"
}

add_user() {
    has_user && return 0
    say "making the system user $OWNER"
    useradd --system --user-group --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin "$OWNER"
}

make_version() {
    if [ -e "$OPT/$name/$COMPLETE" ]; then return 0; fi
    say "making $OPT/$name (takes a minute or two)"
    rm -rf "${OPT:?}/$name" # left by a run that was killed
    target=$OPT/$name
    log=$(mktemp)
    mkdir -p "$target/tmp" || no_version
    # pip unpacks here: one file system to have room on.
    export TMPDIR=$target/tmp PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1
    quietly "/usr/bin/$python" -I -m venv "$target"
    quietly "$target/bin/pip" install --require-hashes -r "$HERE/requirements/run.lock"
    if [ -n "$wheel" ]; then
        # The very file that is installed is compared, from a place where nobody else writes.
        quietly cp "$wheel" "$TMPDIR/"
        echo "$sha256  $TMPDIR/${wheel##*/}" > "$TMPDIR/SHA256SUMS"
        quietly sha256sum --check --quiet "$TMPDIR/SHA256SUMS"
        quietly "$target/bin/pip" install --no-deps --no-index "$TMPDIR/${wheel##*/}"
    else
        build_wheel
        quietly "$target/bin/pip" install --no-deps --no-index "$TMPDIR"/wheel/*.whl
    fi
    quietly "$target/bin/firerunner" --version
    quietly rm -r "$TMPDIR"
    unset TMPDIR
    quietly sync --file-system "$target"
    touch "$target/$COMPLETE" || no_version
    target=''
}

build_wheel() { # Out of the source tree, by a build back end that is locked and hashed as well
    quietly "/usr/bin/$python" -I -m venv "$TMPDIR/build"
    quietly "$TMPDIR/build/bin/pip" install --require-hashes -r "$HERE/requirements/build.lock"
    quietly mkdir "$TMPDIR/source"
    quietly cp -R "$HERE/pyproject.toml" "$HERE/README.md" "$HERE/src" "$TMPDIR/source/"
    quietly "$TMPDIR/build/bin/pip" wheel --no-deps --no-index --no-build-isolation -w "$TMPDIR/wheel" "$TMPDIR/source"
}

quietly() { # COMMAND: its output only if it fails; a session of its own, so that a signal ends all of it at once
    setsid "$@" > "$log" 2>&1 < /dev/null &
    child=$!
    wait "$child" || no_version "$@"
    child=''
}

no_version() { # COMMAND
    child=''
    tail -n 15 "$log" >&2 2> /dev/null || true
    if is_full "$(existing "$target")" || grep -q 'No space left on device' "$log"; then
        fail "the disk of $OPT is full" "Free $NEEDED_MIB MiB and run again"
    fi
    fail "$target could not be made${1:+: $1 failed, see above}" "Mend it and run again"
}

is_full() { # DIRECTORY: by what pip could not have needed if there had been enough before; some have no inodes
    local mib inodes free
    read -r mib inodes free < <(df --output=avail,itotal,iavail --block-size=1M "$1" 2> /dev/null | tail -n 1)
    [ "${mib:-0}" -lt 50 ] || { [ "$inodes" -gt 0 ] && [ "$free" -lt 1000 ]; }
}

make_etc() {
    [ ! -d "$ETC" ] || return 0
    # The set-group-ID bit: files that are made there belong to the service's group.
    command install -d -m 2750 -o root -g "$OWNER" "$ETC"
    command install -m 0640 -o root -g "$OWNER" "$HERE/deploy/systemd/config.example.yaml" "$ETC/config.yaml.example"
}

install_units() {
    local source file
    while read -r file source; do
        if cmp -s "$source" "$file"; then continue; fi
        case $file in
            *.socket) sockets_changed=yes ;;
            "$APPARMOR") load_profile "$source" ;; # first: once the file is there, nothing is left to do
        esac
        put "$source" "$file"
    done < <(unit_files)
    if has_systemd; then systemctl daemon-reload; fi
}

load_profile() { # SOURCE: where the computer is not up, as in a chroot, AppArmor loads it at the next boot
    ! has_systemd || apparmor_parser -r "$1" ||
        fail "AppArmor does not take the profile $1" "See above. Mend it and run again"
}

put() { # SOURCE FILE: the old content or the new one, also on a full disk
    command install -D -m 0644 "$1" "$2.new" || {
        rm -f "$2.new"
        fail "$2 cannot be written" "Is the disk full? Free some space and run again"
    }
    mv -f "$2.new" "$2"
}

switch() { # A link is replaced at once or not at all
    if ! is_in_force; then
        say "letting $OPT/current point to $name"
        if [ -n "$previous" ]; then point "$OPT/previous" "$previous"; fi
        point "$OPT/current" "$name"
        restart_needed=yes
    fi
    mkdir -p "${LINK%/*}"
    point "$LINK" "$OPT/current/bin/firerunner"
}

point() { # LINK TARGET
    ln -sfn "$2" "$1.new"
    mv -fT "$1.new" "$1"
}

remove_old_versions() { # All but those in force, before that, or of a process that still runs
    local directory name
    for directory in "$OPT"/*-????????????; do
        name=${directory##*/}
        if [ "$name" = "$(readlink "$OPT/current")" ] ||
            [ "$name" = "$(readlink "$OPT/previous" 2> /dev/null)" ] || processes_of "$directory/" > /dev/null; then continue; fi
        say "removing $directory, which nothing uses any more"
        rm -rf "$directory"
    done
}

processes_of() { # TEXT: ids of processes with this in their command line; fails if there are none
    local file found=1
    for file in /proc/[0-9]*/cmdline; do
        if [ "$file" != "/proc/$$/cmdline" ] && tr '\0' ' ' 2> /dev/null < "$file" | grep -qF -e "$1"; then
            basename "$(dirname "$file")"
            found=0
        fi
    done
    return $found
}

start_or_tell() {
    if ! has_systemd; then
        say "$name is installed; no systemd runs here, so the units are installed and not started"
    elif is_active && [ -n "$restart" ] && { [ -n "$restart_needed$sockets_changed" ] || serves_another; }; then
        copy_ledger
        say "restarting the service; machines and their jobs run on"
        systemctl restart firerunner.service
        until_it_runs
        say "$name runs"
    elif is_active; then
        say "$name is installed; the running service takes it up when it is restarted: systemctl restart firerunner"
    else
        say "$name is installed. Now:"
    fi
    if [ -n "$sockets_changed" ] && is_active; then
        say "the sockets' units have changed too: systemctl restart firerunner-gate.socket firerunner-web.socket, at a quiet time"
    fi
    if [ ! -e "$ETC/config.yaml" ]; then
        say "  write $ETC/config.yaml, as config.yaml.example beside it shows; docs/first-job.md goes on from there"
    elif has_systemd && ! is_active; then
        say "  firerunner config check && systemctl enable --now ${UNITS[*]}"
    fi
}

until_it_runs() { # Long enough for a wrong start to show
    local second
    for second in 1 2 3 4 5; do
        sleep 1
        if is_active && [ "$(systemctl show --property NRestarts --value firerunner.service)" = 0 ]; then continue; fi
        fail "$name does not run (second $second)" \
            "See: journalctl -u firerunner. docs/install.md says how to go back to ${previous:-the version before}"
    done
}

copy_ledger() {
    [ -e "$STATE/ledger.db" ] || return 0
    # As the directory's user (root with as-root.conf), who alone can have put anything there; in one consistent
    # piece, also while the service writes.
    # shellcheck disable=SC2016
    setpriv --reuid "$(stat -c %u "$STATE")" --regid "$(stat -c %g "$STATE")" --clear-groups \
        "$OPT/current/bin/python" -I -c '
import os, sqlite3, sys
os.umask(0o077)
source, new, kept = sys.argv[1], sys.argv[1] + ".copying", sys.argv[1] + ".before-upgrade"
try:
    with sqlite3.connect(source) as old, sqlite3.connect(new) as copy:
        old.backup(copy)
    os.replace(new, kept)
except BaseException:
    if os.path.exists(new):
        os.remove(new)
    raise' "$STATE/ledger.db" ||
        fail "the ledger could not be copied, so the service was not restarted" \
            "$name is in force at the next start: copy $STATE/ledger.db, then systemctl restart firerunner"
    say "copied the ledger to $STATE/ledger.db.before-upgrade"
}

# Uninstall -------------------------------------------------------------------------------------------------

remove_all() {
    local unit
    steps=()
    ! has_machines || refuse "$(processes_of "$KEEPER" | wc -l) microVMs run here" "$FINISH"
    for unit in "${UNITS[@]}"; do
        [ ! -e "$UNIT_DIR/$unit" ] || steps+=("stop, disable and remove $unit")
    done
    [ ! -e "$APPARMOR" ] || steps+=("remove $APPARMOR")
    [ ! -L "$LINK" ] || steps+=("remove $LINK")
    [ ! -e "$OPT" ] || steps+=("remove $OPT")
    if [ -n "$purge" ]; then
        for unit in "$ETC" "$STATE" "$LOGS"; do [ ! -e "$unit" ] || steps+=("remove $unit with all that is in it"); done
        ! has_user || steps+=("remove the user $OWNER")
    fi
    if [ ${#steps[@]} = 0 ]; then
        say "nothing of FireRunner is installed; nothing to do"
        return 0
    fi
    agree_to "${steps[@]}"
    [ -z "$dry_run" ] || return 0
    doing='removing'
    remove_units
    rm -f "$LINK"
    rm -rf "$OPT"
    if [ -n "$purge" ]; then
        rm -rf "$ETC" "$STATE" "$LOGS"
        ! has_user || userdel "$OWNER"
        say "removed; packages of the distribution stay"
    else
        # Who gave the user away would leave its secrets to the next one with its number.
        say "removed; $ETC, $STATE and $LOGS stay, and with them their user: --uninstall --purge removes them"
    fi
}

remove_units() {
    local unit
    for unit in "${UNITS[@]}"; do
        if [ -e "$UNIT_DIR/$unit" ] && has_systemd; then systemctl disable --now --quiet "$unit"; fi
    done
    # One may have been started since we looked, for a job that came while we asked.
    ! has_machines || fail "the service is stopped, but microVMs were started meanwhile, so nothing was removed" \
        "Start it again: systemctl start firerunner. $FINISH"
    for unit in "${UNITS[@]}"; do rm -f "$UNIT_DIR/$unit"; done
    if [ -e "$APPARMOR" ]; then
        apparmor_parser -R "$APPARMOR" || true
        rm -f "$APPARMOR"
    fi
    if has_systemd; then systemctl daemon-reload; fi
}

main "$@"
