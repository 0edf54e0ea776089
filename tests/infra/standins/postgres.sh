#!/bin/bash
# Make the data folder where it is empty, run the first scripts against a server without a network, then serve.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # shellcheck disable=SC2086  # words of options
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") ${POSTGRES_INITDB_ARGS:-}
    printf '\nhost all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
    pg_ctl -o "-c listen_addresses=''" -w start
    for script in /docker-entrypoint-initdb.d/*.sh; do
        if [ -x "$script" ]; then PGPASSWORD=$POSTGRES_PASSWORD "$script"; else PGPASSWORD=$POSTGRES_PASSWORD bash "$script"; fi
    done
    pg_ctl -m fast -w stop
fi
exec "$@" -c listen_addresses='*'
