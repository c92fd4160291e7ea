# A local S3 server to try an archive in a bucket: SeaweedFS, on loopback, with its data in one directory.
# To be sourced after environment.sh. The server stays until it is ended or the machine is; starting it
# again finds the same ports, credentials and data.

s3_bucket=archive

# start_s3_trial DIRECTORY: have a server there that answers, with the bucket. Sets $s3_endpoint,
# $s3_credentials, $s3_listing (the address where a browser sees the bucket) and $s3_pid_file.
start_s3_trial() {
    local directory=$1 master volume filer s3
    s3_credentials=$directory/credentials
    s3_pid_file=$directory/weed.pid
    mkdir -p "$directory/data"
    [ -s "$directory/s3.json" ] || make_s3_credentials "$directory"
    [ -s "$directory/ports" ] || free_ports >"$directory/ports"
    read -r master volume filer s3 <"$directory/ports"
    s3_endpoint=http://127.0.0.1:$s3
    s3_listing=http://127.0.0.1:$filer/buckets/$s3_bucket/
    # One that was just told to end may still be there: it is waited for, and followed by another.
    local attempt
    for attempt in {1..60}; do
        s3_server_runs || start_s3_server
        ! make_bucket || return 0
        sleep 1
    done
    fail "the S3 server does not answer; $directory/weed.log says why"
}

start_s3_server() {
    say "starting an S3 server (SeaweedFS) at $s3_endpoint"
    # A session of its own: it outlives this terminal. Each part of weed also takes its port + 10000.
    setsid "$venv/bin/weed" -logdir="$directory" server -s3 -s3.config="$directory/s3.json" \
        -dir="$directory/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.port="$master" \
        -volume.port="$volume" -filer.port="$filer" -s3.port="$s3" -s3.port.iceberg=0 \
        -s3.port.lance=0 -master.volumeSizeLimitMB=256 -volume.max=0 \
        >>"$directory/weed.log" 2>&1 </dev/null &
    echo $! >"$s3_pid_file"
}

s3_server_runs() {
    local pid
    pid=$(cat "$s3_pid_file" 2>/dev/null) || return 1
    # A process of this number that is no weed is somebody else's, after a restart of the machine.
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = weed ]
}

make_s3_credentials() {
    local key secret
    key=$(random_word 20) secret=$(random_word 40)
    (
        umask 077
        printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" \
            >"$1/credentials"
        printf '{"identities": [{"name": "trial", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' "$key" "$secret" >"$1/s3.json"
    )
}

random_word() { "$venv/bin/python" -c 'import secrets, sys; print(secrets.token_hex(int(sys.argv[1]) // 2))' "$1"; }

# Four ports that are free, with those 10,000 above them.
free_ports() {
    "$venv/bin/python" - <<'PY'
import random
import socket


def is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


ports = random.sample(range(20_000, 30_000), 1000)
print(*[port for port in ports if is_free(port) and is_free(port + 10_000)][:4])
PY
}

# Whether the server answers, and has the bucket.
make_bucket() {
    AWS_SHARED_CREDENTIALS_FILE=$s3_credentials "$venv/bin/python" - "$s3_endpoint" "$s3_bucket" <<'PY'
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

endpoint, bucket = sys.argv[1:]
config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
try:
    if bucket not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
except (BotoCoreError, ClientError):
    sys.exit(1)
PY
}
