#!/bin/bash
# FireRunner's stand-in for gitlab-runner: takes one job and runs it with bash.
#
# It speaks the runner protocol well enough for demos and tests where GitLab's binary cannot be had, and
# is refused in images for production. Not in it: cache, services, submodules, variables inside variables,
# raw artifacts. Protocol facts are named by their place in gitlab-runner's source.
#
# Everything of the job lies in $work: GitLab's answer, secret headers, the job log as it is sent, and
# flag files by which the stages (a subshell) and the reporter (the main shell) talk. Programs are slow
# to start under emulation, curl and jq above all, so bash does what it can, the guest's static busybox most
# of the rest, jq looks at the job once, and curl carries artifacts, and what goes by HTTPS.
# shellcheck disable=SC2016 # jq programs and the scripts of inner shells are not for this shell to expand
# shellcheck disable=SC2154 # read_job sets what jq finds in the job

set -u
readonly VERSION=0.1.0-stand-in
readonly RUNNER_RETRY_S=3 UNHEALTHY_S=300 # commands/single.go, common/consts.go
readonly BUSYBOX=/run/firerunner/busybox
readonly JSON='Content-Type: application/json' TEXT='Content-Type: text/plain'
readonly KEEP_ALIVE_S=10 CHUNK_BYTES=1048576 FINAL_TRIES=10 AFTER_SCRIPT_S=300

# What it can do, in the words of FeaturesInfo (common/network.go).
readonly INFO='{"name":"gitlab-runner","version":"'$VERSION'","revision":"stand-in","platform":"linux",
"architecture":"amd64","executor":"shell","shell":"bash","features":{"variables":true,"artifacts":true,
"upload_multiple_artifacts":true,"artifacts_exclude":true,"refspecs":true,"masking":true,
"raw_variables":true,"trace_reset":true,"trace_checksum":true,"trace_size":true,"cancelable":true,
"cancel_gracefully":true,"return_exit_code":true,"shared":true,"two_phase_job_commit":false}}'

# ---------------------------------------------------------------------------------------------- helpers

usage() {
    echo "usage: $0 run-single --config FILE --runner NAME --max-builds 1 --wait-timeout SECONDS" >&2
    exit 1
}

green() { printf '\033[32;1m%s\033[0;m\n' "$*"; }
red() { printf '\033[31;1m%s\033[0;m\n' "$*"; }

if [ -x "$BUSYBOX" ]; then # starts four times as fast as the image's own tools
    for tool in cat dd gzip head mkdir mktemp od rm sleep stat tail; do
        eval "$tool() { \"$BUSYBOX\" $tool \"\$@\"; }"
    done
fi

flag() { : > "$work/$1"; }
flagged() { [ -e "$work/$1" ]; }

read_config() { # strings, and the list `environment`, of a config.toml whose form we know: the gate wrote it
    local line variable='^ +"([A-Za-z_][A-Za-z0-9_]*=.*)",$'
    declare -gA config=()
    while IFS= read -r line; do
        [[ ! $line =~ ^\ *([a-z_-]+)\ *=\ *\"(.*)\"\ *$ ]] || config[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
        [[ ! $line =~ $variable ]] || export "${BASH_REMATCH[1]?}"
    done < "$1"
}

# api METHOD PATH TOKEN_FILE [CURL OPTION...]: sets $code; the answer is in $reply.body, its headers in
# $reply.headers ($reply differs for stages and reporter). No secret is ever an argument.
api() {
    local method=$1 path=$2 token_file=$3
    shift 3
    : > "$reply.headers"
    code=$(curl -sS -m 660 -X "$method" -H "@$token_file" -H 'Expect:' -D "$reply.headers" \
        -o "$reply.body" -w '%{http_code}' ${config[tls-ca-file]:+--cacert "${config[tls-ca-file]}"} \
        "$@" "${config[url]}/api/v4/$path") || code=000
}

# send METHOD PATH TOKEN_FILE BODY HEADER...: as api, for what is small and not redirected. BODY is text, or @FILE.
send() {
    local body=$4 options=() header
    if [[ ${config[url]} == http://* ]]; then
        : > "$reply.headers"
        speak "$@" || code=000
        return 0
    fi
    if [[ $body != @* ]]; then # a token may be in it
        printf %s "$body" > "$reply.request"
        body=@$reply.request
    fi
    for header in "${@:5}"; do options+=(-H "$header"); done
    api "$1" "$2" "$3" "${options[@]}" --data-binary "$body"
}

# The same by bash itself. HTTP/1.0: the answer comes in one piece, and ends with the connection at the latest,
# which QEMU's network tells half a second late.
speak() {
    local LC_ALL=C line token length server connection # lengths are in bytes
    [[ ${config[url]} =~ ^http://(\[(.*)\]|([^:/]*))(:([0-9]+))?(/.*)?$ ]] || return
    server=${BASH_REMATCH[2]}${BASH_REMATCH[3]}/${BASH_REMATCH[5]:-80}
    read -r token < "$3"
    if [[ $4 == @* ]]; then length=$(stat -c %s "${4#@}"); else length=$((${#4} + 1)); fi
    printf -v line '%s\r\n' "$1 ${BASH_REMATCH[6]}/api/v4/$2 HTTP/1.0" \
        "Host: ${BASH_REMATCH[1]}${BASH_REMATCH[4]}" "$token" "Content-Length: $length" "${@:5}" ''
    { exec {connection}<> "/dev/tcp/$server"; } 2> /dev/null || return
    # In one piece: a second one waits for the first one's acknowledgement, which the other side puts off. And by
    # cat, not by the shell, because a server that hangs up kills who writes.
    if [[ $4 == @* ]]; then
        { printf %s "$line" && cat "${4#@}"; } > "$reply.request"
        cat "$reply.request" 2> /dev/null 1>&"$connection"
    else
        cat <<< "$line$4" 2> /dev/null 1>&"$connection" # which puts a line feed behind it
    fi
    code=''
    read -r -t 660 -u "$connection" _ code _
    while IFS= read -r -t 60 -u "$connection" line && [ "$line" != $'\r' ]; do
        echo "$line"
    done > "$reply.headers"
    header content-length ''
    if [ "$code" = 204 ]; then value=0; fi
    read_body
    exec {connection}>&-
    [ -n "$code" ] && [ "$length" = "${value:-$length}" ]
}

# Writes a body of $value bytes from the connection, or all that comes; sets $length to what has come. A short one
# needs no program.
read_body() {
    local body
    if [[ $value =~ ^[0-9]{1,2}$ ]]; then
        IFS= read -r -N "$value" -t 60 -u "$connection" body
        printf %s "$body" > "$reply.body"
        length=${#body}
        return
    fi
    if [ -n "$value" ]; then head -c "$value"; else cat; fi <&"$connection" > "$reply.body"
    length=$(stat -c %s "$reply.body")
}

# header NAME DEFAULT: sets $value to that header of the last answer.
header() {
    local line
    value=$2
    while IFS= read -r line; do
        line=${line%$'\r'}
        if [[ ${line,,} == "$1: "* ]]; then value=${line#*: }; fi
    done < "$reply.headers"
}

# --------------------------------------------------------------------------------------------- the ask

# Ask until there is a job (network/gitlab.go RequestJob). Fails when the wait is over.
ask() {
    local last_update='' body
    while :; do
        printf -v body '{"info":%s,"token":"%s","system_id":"%s","last_update":"%s"}' \
            "$INFO" "${config[token]}" "$system_id" "$last_update"
        send POST jobs/request "$work/runner-token" "$body" "$JSON"
        case $code in
            201) return 0 ;;
            204) header x-gitlab-last-update '' && last_update=$value ;;
        esac
        [ "$wait_timeout" -eq 0 ] || [ "$SECONDS" -lt "$wait_timeout" ] || return 1
        if [ "$code" = 403 ]; then sleep "$UNHEALTHY_S"; else sleep "$RUNNER_RETRY_S"; fi
    done
}

# jq turns the job into shell text with quoted values: variables, arrays, and files in $work.
read_job() {
    mkdir -p "$work/files"
    variables=() refspecs=() dependencies=() artifacts=()
    eval "$(jq -r --arg work "$work" '
        def into($file): "printf %s \(@sh) > \($work)/\($file)";
        def item($array): "\($array)+=(\(@sh))";
        def fields: map(tostring) | join("\u001f");
        def step($name): [.steps[] | select(.name == $name) | .script[] |
            "printf \"\\033[32;1m$ %s\\033[0;m\\n\" \(split("\n")[0] | @sh)\n\(.)\n"] | join("");
        (.variables | map({(.key): .value}) | add // {}) as $v |

        "job_id=\(.id) timeout_s=\(.runner_info.timeout // 3600) depth=\(.git_info.depth // 0)",
        "sha=\(.git_info.sha | @sh) repo_url=\(.git_info.repo_url | @sh)",
        "token_json=\(.token | tojson | @sh) git_strategy=\($v.GIT_STRATEGY // "fetch" | @sh)",
        "submodules=\($v.GIT_SUBMODULE_STRATEGY // "none" | @sh)",
        "project_path=\($v.CI_PROJECT_PATH // .job_info.project_full_path // "project" | @sh)",
        (.git_info.refspecs // [] | .[] | item("refspecs")),
        (.variables[] | select(.key | test("^[A-Za-z_][A-Za-z0-9_]*$")) | if .file
            then (.key as $key | .value | into("files/\($key)")),
                ("\(.key)=\($work)/files/\(.key)" | item("variables"))
            else "\(.key)=\(.value)" | item("variables") end),
        ("JOB-TOKEN: \(.token)\n" | into("job-token")),
        (step("script") | into("script.sh")), (step("after_script") | into("after_script.sh")),
        # A sed script; longest secret first, so that one which contains another is masked whole.
        ([.token, (.variables[] | select(.masked) | .value | split("\n")[])] | unique
            | map(select(length > 3)) | sort_by(-length)
            | map(gsub("(?<special>[]\\[\\\\.*^$])"; "\\\(.special)") | "s\u0001\(.)\u0001[MASKED]\u0001g\n")
            | join("") | into("mask.sed")),
        (.dependencies // [] | .[] | select(.artifacts_file.filename) | [.id, .name, .token] | fields
            | item("dependencies")),
        (.artifacts // [] | .[] | select((.artifact_format // "zip") == "zip") | [.when // "on_success",
            "artifact_type=\(.artifact_type // "archive" | @uri)&expire_in=\(.expire_in // "" | @uri)",
            .name // "artifacts", (.paths | join("\n")), (.exclude // [] | join("\n"))]
            | fields | item("artifacts"))
        ' "$reply.body")"
    project_dir=${config[builds_dir]}/$project_path
    variables+=(CI=true GITLAB_CI=true CI_SERVER=yes "CI_RUNNER_VERSION=$VERSION")
    variables+=("CI_PROJECT_DIR=$project_dir")
}

# ----------------------------------------------------------------------------------- the job's stages

get_sources() {
    [ "$git_strategy" != none ] || { echo 'Skipping Git repository setup'; return 0; }
    local source options=(--no-tags --prune --quiet --force)
    if [ -n "${config[clone_url]:-}" ]; then # common/build.go GetRemoteURL: GitLab itself, not the gate
        source=${config[clone_url]%/}/$project_path.git
    else
        source=${repo_url%%://*}://${repo_url#*@}
    fi
    # The job token goes to git by a credential helper, not by the URL (and so not into .git/config).
    printf '#!/bin/sh\n[ "$1" != get ] || sed "s/^JOB-TOKEN: /username=gitlab-ci-token\\npassword=/" %q\n' \
        "$work/job-token" > "$work/credentials"
    chmod 700 "$work/credentials"
    green 'Fetching changes...'
    git init -q "$project_dir" && cd "$project_dir" || return
    git config credential.helper "$work/credentials"
    git remote add origin "$source"
    [ "$depth" -eq 0 ] || options+=(--depth "$depth")
    git fetch "${options[@]}" origin "${refspecs[@]}" || return
    git checkout --force --quiet "$sha" || return
    echo "Checking out ${sha:0:8} as detached HEAD..."
    case $submodules in
        normal) git -c credential.helper="$work/credentials" submodule update --quiet --init ;;
        recursive) git -c credential.helper="$work/credentials" submodule update --quiet --init --recursive ;;
    esac
}

download_artifacts() {
    local id name token dependency
    for dependency in "${dependencies[@]}"; do
        IFS=$'\x1f' read -r id name token <<< "$dependency"
        green "Downloading artifacts for $name ($id)..."
        echo "JOB-TOKEN: $token" > "$work/dependency-token"
        for _ in 1 2 3; do # commands/helpers/artifacts_downloader.go: three tries
            api GET "jobs/$id/artifacts?direct_download=true" "$work/dependency-token" -L
            [ "$code" != 200 ] || break
            sleep 1
        done
        [ "$code" = 200 ] || { red "ERROR: artifacts of $name ($id): the answer is $code"; return 1; }
        unzip -o -q "$reply.body" -d "$project_dir" || return
    done
}

# run_step NAME: run a step's commands in one bash, each shown before it runs. It leads a process group,
# which is written down, so that a cancel can end all of it.
run_step() {
    [ -s "$work/$1.sh" ] || return 0
    (
        cd "$project_dir" || exit
        for variable in "${variables[@]}" "CI_JOB_STATUS=$status"; do export "${variable?}"; done
        exec setsid bash -c 'echo "$$" >> "$1"; set -eo pipefail; . "$2"' \
            bash "$work/groups" "$work/$1.sh" < /dev/null
    )
}

upload_artifacts() {
    local entry when query name paths excludes
    for entry in "${artifacts[@]}"; do
        IFS=$'\x1f' read -r -d '' when query name paths excludes <<< "$entry"
        excludes=${excludes%$'\n'}
        case $when/$status in
            always/* | on_success/success | on_failure/failed) ;;
            *) continue ;;
        esac
        green 'Uploading artifacts...'
        local archive=$work/${name//[^A-Za-z0-9._-]/_}.zip
        (
            cd "$project_dir" || exit
            shopt -s globstar nullglob dotglob
            IFS=$'\n'
            for path in $paths; do [ ! -e "$path" ] || echo "$path"; done > "$work/paths"
            set -f
            [ -z "$excludes" ] || excludes="-x"$'\n'$excludes
            # shellcheck disable=SC2086 # one argument per line
            [ ! -s "$work/paths" ] || zip -q -r -y "$archive" -@ $excludes < "$work/paths"
        )
        [ -s "$archive" ] || { echo "WARNING: no files to upload: ${paths//$'\n'/, }"; continue; }
        upload "$archive" "$query" || return
    done
}

upload() { # upload ARCHIVE QUERY; a 307 is followed with its body
    for _ in 1 2 3; do # commands/helpers/artifacts_uploader.go: three tries
        api POST "jobs/$job_id/artifacts?artifact_format=zip&$2" "$work/job-token" -L \
            -F "file=@$1;type=application/octet-stream"
        if [ "$code" = 201 ]; then
            echo 'Uploading artifacts as "archive" to coordinator... 201 Created'
            return 0
        fi
        sleep 2
    done
    red "ERROR: uploading artifacts: the answer is $code"
    return 1
}

# All stages in order. Prints to the job log; leaves `STATE EXIT_CODE REASON` in $work/result.
stages() {
    local status=running exit_code='' reason='' reply=$work/stages
    echo "Running with the FireRunner stand-in for gitlab-runner $VERSION on $HOSTNAME"
    if ! get_sources || ! download_artifacts; then
        reason=runner_system_failure
    elif ! flagged cancel; then
        run_step script
        exit_code=$?
        [ "$exit_code" -eq 0 ] || reason=script_failure
    fi
    ! flagged abort || exit
    ! flagged late || reason=job_execution_timeout
    ! flagged cancel || reason=job_canceled
    flag script-over
    case $reason in '') status=success ;; job_canceled) status=canceled ;; *) status=failed ;; esac
    if [ "$reason" != runner_system_failure ]; then
        run_step after_script || echo 'WARNING: after_script failed, but job will continue unaffected'
    fi
    if [ "$status" != canceled ]; then
        upload_artifacts || reason=${reason:-runner_system_failure}
    fi
    case $reason in
        '') green 'Job succeeded' ;;
        job_canceled) red 'ERROR: Job failed: canceled' ;;
        job_execution_timeout) red "ERROR: Job failed: execution took longer than ${timeout_s}s" ;;
        runner_system_failure) red 'ERROR: Job failed (system failure)' ;;
        *) red "ERROR: Job failed: exit status $exit_code" ;;
    esac
    if [ -z "$reason" ]; then status=success; else status=failed; fi
    [ "$reason" = script_failure ] || exit_code=-
    echo "$status $exit_code $reason" > "$work/result"
    end_script # what the scripts left running would hold the log open
}

# --------------------------------------------------------------------------------------- the reporter

put_state() { # put_state STATE [FURTHER JSON]; token in header and body (network/gitlab.go UpdateJob)
    local body
    printf -v body '{"info":%s,"token":%s,"state":"%s"%s}' "$INFO" "$token_json" "$1" "${2:-}"
    send PUT "jobs/$job_id" "$work/job-token" "$body" "$JSON"
    last_call=$SECONDS
    case $code in 403 | 404) flag abort ;; esac
    heed_job_status
}

# Send what is new in the log, at most one chunk. Fails if there is nothing new, or it could not be sent. Sets
# $size to that of the log.
patch_trace() {
    local end
    size=$(stat -c %s "$work/log")
    [ "$size" -gt "$sent" ] || return 1
    end=$((size - sent > CHUNK_BYTES ? sent + CHUNK_BYTES : size))
    dd if="$work/log" of="$work/chunk" bs="$CHUNK_BYTES" skip="$sent" count="$((end - sent))" \
        iflag=skip_bytes,count_bytes 2> /dev/null
    send PATCH "jobs/$job_id/trace?debug_trace=false" "$work/job-token" "@$work/chunk" "$TEXT" \
        "Content-Range: $sent-$((end - 1))"
    last_call=$SECONDS
    heed_job_status
    case $code in
        202) sent=$end ;;
        416) header range 0-0 && sent=${value#*-} ;; # the server's size: go on from there
        404) sent=$size ;; # it wants no more of it
        403) flag abort && return 1 ;;
        *) return 1 ;;
    esac
}

heed_job_status() { # network/remote_job_state_response.go
    header job-status ''
    case $value in
        canceling)
            if ! flagged cancel && ! flagged script-over; then end_script & fi
            flag cancel
            ;;
        canceled | failed) flag abort ;;
    esac
}

# SIGTERM for the process groups of the scripts, and SIGKILL for what is left of them.
end_script() {
    local group left
    for _ in 1 2 3 4 5; do # the script may be just starting
        if flagged groups || flagged script-over; then break; fi
        sleep 1
    done
    flagged groups || return 0
    for signal in TERM KILL; do
        left=false
        while read -r group; do
            if kill "-$signal" -- "-$group" 2> /dev/null; then left=true; fi
        done < "$work/groups"
        ! "$left" || sleep 1
    done
}

# While the stages run: send the log every second, keep the job alive, heed cancels, watch the clock.
report() {
    local started=$SECONDS after_deadline='' pause_s=0.1
    # read fails with more than 128 when its time is over, and with 1 when the stages have ended.
    until read -r -t "$pause_s" -u "$stages_over" || [ $? -le 128 ]; do
        patch_trace && pause_s=1
        [ $((SECONDS - last_call)) -lt "$KEEP_ALIVE_S" ] || put_state running
        if flagged abort; then
            end_script
            return 1
        fi
        if [ $((SECONDS - started)) -ge "$timeout_s" ] && ! flagged late && ! flagged script-over; then
            flag late
            end_script &
        fi
        if flagged script-over; then after_deadline=${after_deadline:-$((SECONDS + AFTER_SCRIPT_S))}; fi
        [ -z "$after_deadline" ] || [ "$SECONDS" -lt "$after_deadline" ] || end_script
    done
}

# The rest of the log, then the final state: 202 means that GitLab still stores the log.
finish() {
    local state exit_code reason checksum further
    read -r state exit_code reason < "$work/result"
    for ((try = 1; try <= FINAL_TRIES; try++)); do
        while patch_trace; do :; done
        ! flagged abort || return 1
        if [ "$sent" -eq "$size" ]; then
            # The last 8 bytes of a gzip file are the content's CRC-32 and size (helpers/trace/buffer.go).
            read -r checksum < <(gzip -c < "$work/log" | tail -c 8 | od -A n -t x4 -N 4)
            checksum=crc32:$checksum
            further=',"checksum":"'$checksum'","output":{"checksum":"'$checksum'","bytesize":'$size'}'
            [ "$exit_code" = - ] || further+=',"exit_code":'$exit_code
            put_state "$state" "$further${reason:+,\"failure_reason\":\"$reason\"}"
            case $code in
                200 | 403 | 404) return 0 ;;
                202) try=1 ;;
                412) sent=0 ;;
            esac
        fi
        header x-gitlab-trace-update-interval $((try * try))
        sleep "$value"
    done
}

# ------------------------------------------------------------------------------------------------ main

if [ "${1:-}" = --version ]; then
    echo "Version:      $VERSION"
    echo "This is the FireRunner stand-in, not GitLab's gitlab-runner."
    exit 0
fi
[ "${1:-}" = run-single ] || usage
shift
config_file='' wait_timeout=0
while [ $# -ge 2 ]; do
    case $1 in
        --config) config_file=$2 ;;
        --wait-timeout) wait_timeout=$2 ;;
        --runner | --max-builds) ;; # one runner, one job
        *) usage ;;
    esac
    shift 2
done
[ -r "$config_file" ] || usage

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
read_config "$config_file"
read -r system_id 2> /dev/null < "${config_file%/*}/.runner_system_id" || system_id=${system_id:-s_stand-in}
echo "RUNNER-TOKEN: ${config[token]}" > "$work/runner-token"
code=000 value='' sent=0 size=0 last_call=0 reply=$work/reporter

while ask; do
    read_job
    echo "stand-in: job $job_id received"
    : > "$work/log"
    put_state running
    if flagged abort || flagged cancel; then # commands/single.go: not counted, ask again
        if flagged cancel; then put_state failed; fi
        rm -f "$work"/{abort,cancel}
        continue
    fi
    mkdir -p "$project_dir"
    exec {stages_over}< <(umask 022 && stages 2>&1 | sed -u -f "$work/mask.sed" >> "$work/log")
    report && finish
    echo "stand-in: job $job_id is over: $(cat "$work/result" 2> /dev/null || echo aborted)"
    break
done
exit 0
