#!/bin/bash
# `make serve`: MLflow, Prefect and a worker for the checkout in the working directory, until Ctrl-C.
#
#   FASTDRIVE_MLFLOW_PORT=5000 FASTDRIVE_PREFECT_PORT=4200      other ports
#   PREFECT_API_AUTH_STRING=user:password                       Prefect asks for it; so do the shells that call it
#   MLFLOW_TRACKING_PASSWORD=12-or-more-letters                 MLflow asks MLFLOW_TRACKING_USERNAME (admin) for it
#   MLFLOW_BACKEND_STORE_URI, PREFECT_SERVER_DATABASE_CONNECTION_URL    PostgreSQL in the place of SQLite files
set -euo pipefail

export FASTDRIVE_MLFLOW_PORT=${FASTDRIVE_MLFLOW_PORT:-5000} FASTDRIVE_PREFECT_PORT=${FASTDRIVE_PREFECT_PORT:-4200}
mlflow=http://127.0.0.1:$FASTDRIVE_MLFLOW_PORT prefect=http://127.0.0.1:$FASTDRIVE_PREFECT_PORT

fail() { echo "expected $1, got $2. To fix: $3" >&2; exit "$4"; }
for name in FASTDRIVE_MLFLOW_PORT FASTDRIVE_PREFECT_PORT; do
    if (: < "/dev/tcp/127.0.0.1/${!name}") 2> /dev/null; then
        fail "port ${!name} to be free" "a server that listens there" "stop it, or $name=<another> make serve" 4
    fi
done

mkdir -p .local/logs
echo "$prefect/api" > .local/prefect-url
export PREFECT_HOME=$PWD/.local/prefect PREFECT_API_URL=$prefect/api FASTDRIVE_MLFLOW_PAGES=$mlflow
export DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false MLFLOW_DISABLE_TELEMETRY=true PYTHONUNBUFFERED=1
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # seven processes for LLM judges, which nothing here uses
export PREFECT_SERVER_CORS_ALLOWED_ORIGINS=$prefect,http://localhost:$FASTDRIVE_PREFECT_PORT

# The store that `make reproduce` records in
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI:-sqlite:///$PWD/mlflow.db}
export MLFLOW_DEFAULT_ARTIFACT_ROOT=file://$PWD/mlartifacts FASTDRIVE_MLFLOW_OPTIONS=
[ -n "${MLFLOW_TRACKING_URI:-}" ] || python -c 'from stages.core import tracking; tracking.store_uri()'

if [ -n "${PREFECT_API_AUTH_STRING:-}" ]; then
    [[ $PREFECT_API_AUTH_STRING == ?*:?* ]] || fail "PREFECT_API_AUTH_STRING=user:password" "no colon" "set it so" 2
    export PREFECT_SERVER_API_AUTH_STRING=$PREFECT_API_AUTH_STRING PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true
fi
if [ -n "${MLFLOW_TRACKING_PASSWORD:-}" ]; then
    [ ${#MLFLOW_TRACKING_PASSWORD} -ge 12 ] \
        || fail "12 or more letters in MLFLOW_TRACKING_PASSWORD" "${#MLFLOW_TRACKING_PASSWORD}" "a longer password" 2
    export MLFLOW_AUTH_ADMIN_USERNAME=${MLFLOW_TRACKING_USERNAME:-admin}
    export MLFLOW_AUTH_ADMIN_PASSWORD=$MLFLOW_TRACKING_PASSWORD MLFLOW_AUTH_CONFIG_PATH=$PWD/.local/mlflow-auth.ini
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(head -c 32 /dev/urandom | base64)
    export MLFLOW_FLASK_SERVER_SECRET_KEY FASTDRIVE_MLFLOW_OPTIONS="--app-name basic-auth"
    sed "s|sqlite:.*|sqlite:///${PWD//%/%%}/.local/mlflow-users.db|" "$(dirname "$0")/docker/mlflow-auth.ini" \
        > .local/mlflow-auth.ini
fi

cat << END
MLflow    $mlflow
Prefect   $prefect     deployments reproduce, retrain, promote, rollback; up in about 30 s
logs      $PWD/.local/logs
Ctrl-C stops all of it.
END
exec supervisord --nodaemon --configuration "$(dirname "$0")/supervisord.conf"
