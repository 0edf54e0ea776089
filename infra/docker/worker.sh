#!/bin/bash
# In /work, a volume: the checkout that the flows work in, cloned once; then as `make serve` does.
set -euo pipefail
if [ ! -d .git ]; then
    git clone --quiet /source .
fi
dvc remote add --local --force --default store "s3://$DVC_BUCKET"
dvc remote modify --local store endpointurl "$AWS_ENDPOINT_URL_S3"
exec infra/worker.sh --with-healthcheck
