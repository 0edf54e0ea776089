#!/bin/bash
# Images under the names that infra/ begins with, for a Docker engine that no registry of images is open to:
#
#   apt-get install docker.io docker-compose debootstrap && dockerd &
#   tests/infra/standins/make.sh      # with a `docker` that has BuildKit: Debian's, or one with its buildx
#
# They are NOT the real ones: Debian with this machine's Python, Debian's PostgreSQL, and moto in the place of MinIO. They
# have the users, folders and entry points of the real ones, which is what infra/compose.yaml builds on.
set -euo pipefail
cd "$(dirname "$0")"
python=$(sed -n 's/^FROM \(python:[^ ]*\).*/\1/p' ../../../infra/docker/Dockerfile)
minio=$(sed -n 's/^FROM \(minio[^ ]*\).*/\1/p' ../../../infra/docker/Dockerfile)
postgres=$(sed -n 's/^ *image: \(postgres:.*\)/\1/p' ../../../infra/compose.yaml)
home=$(${PYTHON:-python3.11} -c 'import sys; print(sys.base_prefix)')
if [ "$home" = /usr ]; then
    echo 'wanted a Python 3.11 in a folder of its own; got the system'"'"'s; next: PYTHON=.venv/bin/python tests/infra/standins/make.sh' >&2
    exit 3
fi
root=$(mktemp -d /var/tmp/standin.XXXX)
trap 'rm -rf "$root"' EXIT

libraries=libssl3,libsqlite3-0,libffi8,libreadline8,libbz2-1.0,liblzma5,libncursesw6,libuuid1,libexpat1,tzdata,netbase
debootstrap --variant=minbase --include=ca-certificates,$libraries bookworm "$root"
chmod 755 "$root"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"  # an inspecting proxy's authority is in it
cp -a "$home/lib" "$root/usr/local/"
rm -rf "$root/usr/local/lib/python3.11/"{test,site-packages/*} "$root"/var/cache/apt/archives/*.deb
cp "$home/bin/python3.11" "$root/usr/local/bin/"
ln -s python3.11 "$root/usr/local/bin/python"
chroot "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c 'ldconfig && python -m ensurepip && ln -s pip3 /usr/local/bin/pip'
tar -C "$root" -c . | docker import \
    -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
    -c 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
    -c 'LABEL fastdrive.standin=python' - "$python"

export DOCKER_BUILDKIT=1
docker build --build-arg BASE="$python" --target postgres --tag "$postgres" .
docker build --build-arg BASE="$python" --target store --tag "$minio" .
