"""Make the buckets that are not there: python make_buckets.py mlflow dvc. The store: AWS_ENDPOINT_URL_S3."""

import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

try:
    store = boto3.client("s3")
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    for name in sys.argv[1:]:
        if name not in there:
            store.create_bucket(Bucket=name)
        print(name, "was there" if name in there else "made")
except (BotoCoreError, ClientError) as error:
    sys.exit(f"wanted buckets in the store of AWS_ENDPOINT_URL_S3; got {error}; next: `docker compose logs s3`")
