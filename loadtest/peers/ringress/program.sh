# shellcheck shell=bash
# Where the program is. Sourced by the scripts beside it.

ringress_program() {
    local program=${RINGRESS:-$PEERS/../../target/release/ringress}
    if [ -x "$program" ]; then
        echo "$program"
    elif [ -n "${RINGRESS:-}" ]; then
        fail "$RINGRESS cannot be run"
    else
        need_program ringress
    fi
}
