#!/usr/bin/env bash
# Ten upgrades in a row, while a psql session, a `redis-cli --latency` and a download go on through them.
#
#   examples/upgrade-demo.sh [RINGWAY]      the program; default: target/release/ringway, else `ringway` on the PATH
#
# What is not installed (PostgreSQL, Redis, curl with python3) is left out and named. Everything lives in a temporary
# directory and on free ports of the loopback interface, and is gone afterwards.
set -euo pipefail

ringway=${1:-}
[ -n "$ringway" ] || ringway=$( [ -x target/release/ringway ] && echo "$PWD/target/release/ringway" || command -v ringway ) || true
[ -n "$ringway" ] || { echo "upgrade-demo: no ringway; build it with: cargo build --release" >&2; exit 1; }
ringway=$(readlink -f "$ringway")
UPGRADES=10
work=$(mktemp -d)
pids=()
cleanup() {
    "$ringway" drain --config "$work/ringway.toml" --no-wait >/dev/null 2>&1 || true
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    [ ! -d "$work/pg" ] || as_user "$pg_ctl" -D "$work/pg" -m immediate stop >/dev/null 2>&1 || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
app() { printf '[[app]]\nname = "%s"\nlisten = ["127.0.0.1:%s"]\nbackends = ["127.0.0.1:%s"]\n\n' "$1" "$2" "$3"; }
skip() { echo "left out: $*"; }

admin=$(free_port)
printf '[server]\naccess_log = false\nlog_level = "warn"\n\n[admin]\nlisten = "127.0.0.1:%s"\n\n' "$admin" > "$work/ringway.toml"

# A download that takes as long as the demo: 200 MB at 20 MB a second, and its checksum.
if command -v curl >/dev/null; then
    head -c 200000000 /dev/urandom > "$work/file"
    file=$(free_port); web=$(free_port)
    (cd "$work" && exec python3 -m http.server --bind 127.0.0.1 "$file" >/dev/null 2>&1) & pids+=($!)
    app web "$web" "$file" >> "$work/ringway.toml"
else
    skip "the download (no curl)"
fi
# Redis.
if command -v redis-server >/dev/null && command -v redis-cli >/dev/null; then
    redis=$(free_port); cache=$(free_port)
    redis-server --port "$redis" --bind 127.0.0.1 --save '' --appendonly no --dir "$work" >/dev/null & pids+=($!)
    app cache "$cache" "$redis" >> "$work/ringway.toml"
else
    skip "redis-cli --latency (no redis-server)"
fi
# PostgreSQL, which does not run as root.
pg_ctl=$(command -v pg_ctl || ls /usr/lib/postgresql/*/bin/pg_ctl 2>/dev/null | tail -1 || true)
as_user() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
if [ -n "$pg_ctl" ] && command -v psql >/dev/null && as_user true 2>/dev/null; then
    postgres=$(free_port); database=$(free_port)
    chmod 711 "$work"; mkdir "$work/pg"
    [ "$(id -u)" != 0 ] || chown postgres "$work/pg"
    as_user "$pg_ctl" -D "$work/pg" -o "-A trust -U demo" init >/dev/null
    as_user "$pg_ctl" -D "$work/pg" -w -o "-p $postgres -k $work/pg -c listen_addresses=127.0.0.1" \
        -l "$work/pg/log" start >/dev/null
    app database "$database" "$postgres" >> "$work/ringway.toml"
else
    skip "the psql session (no PostgreSQL)"
fi

"$ringway" run --config "$work/ringway.toml" & pids+=($!)
until "$ringway" status --config "$work/ringway.toml" >/dev/null 2>&1; do sleep 0.1; done

if [ -n "${web:-}" ]; then
    until curl -fsS "http://127.0.0.1:$web/" -o /dev/null 2>/dev/null; do sleep 0.1; done
    curl -fsS --limit-rate 20M "http://127.0.0.1:$web/file" | sha256sum > "$work/sum" & download=$!
fi
if [ -n "${cache:-}" ]; then
    redis-cli -p "$cache" --latency --raw -i 20 > "$work/latency" & latency=$!
fi
if [ -n "${database:-}" ]; then
    # One session, whose number of the server process must stay the same.
    for _ in $(seq "$((UPGRADES + 2))"); do echo 'select pg_backend_pid();'; echo '\! sleep 0.8'; done |
        psql -h 127.0.0.1 -p "$database" -U demo -d postgres -qAt > "$work/sessions" & session=$!
fi

for upgrade in $(seq "$UPGRADES"); do
    sleep 0.7
    "$ringway" upgrade --config "$work/ringway.toml" | tail -1 | sed "s/^/$upgrade: /"
done

"$ringway" versions --config "$work/ringway.toml" | tail -n +4
failed=0
if [ -n "${download:-}" ]; then
    wait "$download"
    [ "$(cut -d' ' -f1 "$work/sum")" = "$(sha256sum < "$work/file" | cut -d' ' -f1)" ] &&
        echo "the download is whole: 200 MB through $UPGRADES upgrades" || { echo "the download is broken"; failed=1; }
fi
if [ -n "${latency:-}" ]; then
    wait "$latency" || true
    echo "redis-cli --latency (min max avg samples, ms): $(tail -1 "$work/latency")"
fi
if [ -n "${session:-}" ]; then
    wait "$session"
    [ "$(sort -u "$work/sessions" | wc -l)" = 1 ] &&
        echo "the psql session is one: server process $(head -1 "$work/sessions") answered $(wc -l < "$work/sessions") times" ||
        { echo "the psql session was another one"; failed=1; }
fi
exit "$failed"
