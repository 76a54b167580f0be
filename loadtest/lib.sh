# shellcheck shell=bash
# What the scripts of this folder share. Sourced, never run. SCRIPTS.md says what they do and what they need.
#
# Every script starts a backend and a proxy on loopback, each process with a bounded life, puts a load on
# them, and ends them by trap whatever happens.

set -euo pipefail

LOADTEST=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$LOADTEST/.." && pwd)
SCENARIO=$(basename "$0")

# Core of the proxy under test, and core of backend and load generator.
PROXY_CORE=${PROXY_CORE:-0}
LOAD_CORE=${LOAD_CORE:-1}
# Time before each measured window, seconds; it may be a fraction.
WARMUP=${WARMUP:-1}
# The longest measured window, seconds: what a script starts must not outlast its user's patience.
SECONDS_MAX=600

# Set by the options; each script may change the defaults before it calls `read_options`.
PEER=ringress
SECONDS_MEASURED=10
RATE=2000
CONNECTIONS=64
OUT=
KEEP_OUT=no
RATE_GIVEN=no

# Addresses of clients that open many connections: each has its own ports.
# shellcheck disable=SC2034
FOUR_SOURCES=127.0.0.1,127.0.0.2,127.0.0.3,127.0.0.4

# Processes that this script has started and the folders of peers that it must stop.
STARTED=()
PEERS_STARTED=()
WORK=

fail() {
    echo "$SCENARIO: $*" >&2
    exit 1
}

say() {
    echo "== $*"
}

# The head comment of the running script, which is its help.
print_help() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    cat <<EOF

Options of all scenarios (defaults of this one):
  --peer NAME          what to test: $(peer_names | paste -sd ' ') [$PEER]
  --seconds N          length of each measured window, at most $SECONDS_MAX [$SECONDS_MEASURED]
  --rate N             requests per second [$RATE]
  --connections N      connections of the load generator [$CONNECTIONS]
  --out FOLDER         a new folder for the results [a temporary one, removed at the end]
  -h, --help           print this help

Environment: PROXY_CORE [0], LOAD_CORE [1], WARMUP [1], RINGRESS, RINGRESS_LOAD (programs; else those of
target/release or PATH), PEERS_HOME (see peers/README.md).
Exit codes: 0 good; 1 something failed; 3 the load generator was the limit, so that the figures say nothing
of the proxy.
EOF
}

peer_names() {
    local file
    for file in "$LOADTEST"/peers/*/start; do
        basename "$(dirname "$file")"
    done
}

is_number() {
    [[ $1 =~ ^[1-9][0-9]{0,6}$ ]]
}

# Reads the options of all scenarios. A script with options of its own defines `own_option`, which gets the
# option and its value, prints nothing, and says how many words it took: 0 (not mine), 1 or 2, in TAKEN.
read_options() {
    local option
    while [ $# -gt 0 ]; do
        option=$1
        case $option in
            -h | --help)
                print_help
                exit 0
                ;;
        esac
        TAKEN=0
        if declare -F own_option >/dev/null; then
            own_option "$option" "${2:-}"
        fi
        if [ "$TAKEN" -gt 0 ]; then
            shift "$TAKEN"
            continue
        fi
        [ $# -ge 2 ] || fail "$option is unknown or needs a value; --help lists the options"
        case $option in
            --peer) PEER=$2 ;;
            --seconds) SECONDS_MEASURED=$2 ;;
            --rate)
                RATE=$2
                # shellcheck disable=SC2034
                RATE_GIVEN=yes
                ;;
            --connections) CONNECTIONS=$2 ;;
            --out) OUT=$2 KEEP_OUT=yes ;;
            *) fail "$option is unknown; --help lists the options" ;;
        esac
        shift 2
    done
    [ -x "$LOADTEST/peers/$PEER/start" ] || fail "no peer is called \"$PEER\": $(peer_names | paste -sd ' ')"
    for option in "$SECONDS_MEASURED" "$RATE" "$CONNECTIONS"; do
        is_number "$option" || fail "\"$option\" is no number from 1 to 9999999"
    done
    [ "$SECONDS_MEASURED" -le "$SECONDS_MAX" ] || fail "--seconds takes at most $SECONDS_MAX"
    [[ $WARMUP =~ ^[0-9]{1,2}([.][0-9]{1,3})?$ ]] || fail "WARMUP takes seconds from 0 to 99, such as 0.5"
    # In whole seconds, for bounds: the shell does not count fractions.
    WARMUP_WHOLE=$((10#${WARMUP%.*} + 1))
    begin
}

# The load generator.
find_load() {
    local program=${RINGRESS_LOAD:-$ROOT/target/release/ringress-load}
    [ -x "$program" ] || program=$(command -v ringress-load) ||
        fail "ringress-load is missing: cargo build --release -p ringress-load, or set RINGRESS_LOAD"
    echo "$program"
}

# Checks what is needed, makes the folders, and sees to the end.
begin() {
    local needed
    for needed in python3 taskset setsid timeout; do
        command -v "$needed" >/dev/null || fail "needs the program $needed"
    done
    LOAD=$(find_load)
    VERSION=$("$LOADTEST/peers/$PEER/version") || fail "$PEER is left out: it is not installed"
    WORK=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    if [ -z "$OUT" ]; then
        OUT=$WORK/out
    elif [ -e "$OUT" ] && [ -n "$(ls -A "$OUT")" ]; then
        fail "$OUT is there already and not empty: each run has a folder of its own"
    fi
    mkdir -p "$OUT"
    OUT=$(cd "$OUT" && pwd)
    # As many open files as are allowed.
    ulimit -n "$(ulimit -H -n)" 2>/dev/null || true
    say "$SCENARIO: $VERSION"
}

clean_up() {
    local code=$? folder pid
    trap - EXIT INT TERM HUP
    for folder in "${PEERS_STARTED[@]}"; do
        DIRECTORY=$folder "$LOADTEST/peers/$PEER/stop" 2>/dev/null || true
        if [ "$KEEP_OUT" = yes ] && [ -f "$folder/log" ]; then
            cp "$folder/log" "$OUT/proxy.log"
        fi
    done
    for pid in "${STARTED[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$WORK"
    exit "$code"
}

# A port of 127.0.0.1 that nobody listens on at this moment.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# `start_backend BYTES`: a backend whose bodies are so long, with a bounded life. Sets BACKEND_PORT and
# BACKEND_PID.
start_backend() {
    local output=$WORK/backend-${#STARTED[@]} deadline=$((SECONDS + 10))
    BACKEND_PORT=$(free_port)
    : >"$output"
    "$LOAD" responder --port "$BACKEND_PORT" --body "$1" --core "$LOAD_CORE" \
        --lifetime "$((16 * (SECONDS_MEASURED + WARMUP_WHOLE) + 900))s" \
        >"$output" 2>&1 &
    BACKEND_PID=$!
    STARTED+=("$BACKEND_PID")
    # Its end, which may be part of the scenario, is no news to the shell.
    disown "$BACKEND_PID"
    until grep -q listening "$output"; do
        kill -0 "$BACKEND_PID" 2>/dev/null || fail "the backend does not start: $(cat "$output")"
        [ "$SECONDS" -lt "$deadline" ] || fail "the backend does not listen after 10 s"
        sleep 0.02
    done
}

# `start_proxy SERVICE UPSTREAM_PORTS`: the peer under test. Sets PROXY_PORT, PROXY_PID, PROXY_FOLDER.
start_proxy() {
    PROXY_PORT=$(free_port)
    PROXY_FOLDER=$WORK/$PEER-${#PEERS_STARTED[@]}
    PEERS_STARTED+=("$PROXY_FOLDER")
    PROXY_PID=$(LISTEN_PORT=$PROXY_PORT UPSTREAM_PORT=$2 CORE=$PROXY_CORE DIRECTORY=$PROXY_FOLDER \
        SERVICE=$1 CONNECTIONS=$((CONNECTIONS + 8192)) "$LOADTEST/peers/$PEER/start") ||
        fail "$PEER does not start"
}

# `load FOLDER OPTION…`: one run of the load generator into a new folder below OUT, bounded in time. Returns
# its exit code, of which only 0 and 3 (the generator was the limit) are results.
load() {
    local folder=$OUT/$1 code=0
    shift
    # In the background, as a trap is not run before a foreground program has ended.
    timeout -k 5 $((SECONDS_MEASURED + WARMUP_WHOLE + 30)) \
        "$LOAD" run --host hello.com --cores "$LOAD_CORE" --duration "${SECONDS_MEASURED}s" \
        --warmup "${WARMUP}s" --quiet --label "$PEER" --out "$folder" "$@" 2>"$WORK/messages" &
    STARTED+=("$!")
    wait "$!" || code=$?
    grep -v '^written: ' "$WORK/messages" >&2 || true
    return "$code"
}

# `run FOLDER OPTION…`: the same, with the exit code kept in RUN_CODE and every other code the end.
run() {
    RUN_CODE=0
    load "$@" || RUN_CODE=$?
    case $RUN_CODE in
        0) ;;
        3) say "the load generator was the limit: these figures say nothing of $PEER" ;;
        *) fail "the load generator ended with code $RUN_CODE" ;;
    esac
}

# Resident memory of the proxy under test, all of its processes, KiB.
memory_kib() {
    ps -eo pgid=,rss= | awk -v group="$PROXY_PID" '$1 == group { sum += $2 } END { print sum + 0 }'
}

# `start_clients KIND COUNT`: clients that are no load, until `end_clients`. Waits until all are connected.
start_clients() {
    local deadline=$((SECONDS + 30))
    CLIENTS_OUTPUT=$WORK/clients-$1
    : >"$CLIENTS_OUTPUT"
    taskset -c "$LOAD_CORE" timeout -k 5 $((SECONDS_MEASURED + WARMUP_WHOLE + 90)) \
        python3 "$LOADTEST/clients.py" "$1" "$PROXY_PORT" "$2" >"$CLIENTS_OUTPUT" 2>&1 &
    CLIENTS_PID=$!
    STARTED+=("$CLIENTS_PID")
    until grep -q ready "$CLIENTS_OUTPUT"; do
        kill -0 "$CLIENTS_PID" 2>/dev/null || fail "the clients failed: $(tail -n 1 "$CLIENTS_OUTPUT")"
        [ "$SECONDS" -lt "$deadline" ] || fail "the clients are not connected after 30 s"
        sleep 0.05
    done
}

# Ends them; CLIENTS_END says what became of them.
end_clients() {
    kill -TERM "$CLIENTS_PID"
    wait "$CLIENTS_PID" || true
    # shellcheck disable=SC2034
    CLIENTS_END=$(tail -n 1 "$CLIENTS_OUTPUT")
}

# `side_by_side LABEL=FOLDER…`: runs below OUT on one plot, which stays in OUT/runs.html.
side_by_side() {
    local run runs=()
    for run in "$@"; do
        runs+=("${run%%=*}=$OUT/${run#*=}")
    done
    "$LOAD" compare "${runs[@]}" --out "$OUT/runs.html" 2>"$WORK/messages" || fail "$(cat "$WORK/messages")"
}

# `figure FOLDER EXPRESSION`: a figure of a run below OUT, by a Python expression: `run` is run.json, `p(99)`
# a percentile of the latency in microseconds, `shown(99)` the same with a ~ if too few samples stand for it,
# `failed` the number of failed requests.
figure() {
    python3 - "$OUT/$1/run.json" "$2" <<'EOF'
import json, sys
run = json.load(open(sys.argv[1]))
def p(percentile, of="latency"):
    for row in run["times"][of]["percentiles"]:
        if row["percentile"] == percentile:
            return round(row["nanoseconds"] / 1000)
def shown(percentile):
    for row in run["times"]["latency"]["percentiles"]:
        if row["percentile"] == percentile:
            return ("" if row["founded"] else "~") + str(p(percentile))
failed = sum(run["counts"]["failed"].values()) + run["counts"]["unstarted"]
print(eval(sys.argv[2]))
EOF
}

# The last lines of every scenario.
finish() {
    if [ "$KEEP_OUT" = yes ]; then
        echo "results: $OUT"
    fi
    exit "${RUN_CODE:-0}"
}
