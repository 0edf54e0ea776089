"""The Kubernetes work pool's template, filled in by Prefect's own code, not run: what a pod would be."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import prefect
import pytest
import yaml
from prefect.utilities.templating import apply_values, find_placeholders

ROOT = Path(__file__).parents[2]
TEMPLATE: dict[str, Any] = json.loads((ROOT / "infra/k8s/work-pool.json").read_text())
VARIABLES = TEMPLATE["variables"]["properties"]
IMAGE = "registry.example/fastdrive/worker:0.1.0"
KNOWN = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"


def job(**given: Any) -> dict[str, Any]:
    """The manifest of a run with the defaults and what is `given`."""
    defaults = {name: entry["default"] for name, entry in VARIABLES.items() if "default" in entry}
    values = {"name": "run", "command": ["prefect", "flow-run", "execute"], "labels": {}, "image": IMAGE} | defaults
    manifest: dict[str, Any] = apply_values(TEMPLATE["job_configuration"]["job_manifest"], values | given)
    return manifest


def container(**given: Any) -> dict[str, Any]:
    (found,) = job(**given)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_prefect_knows_every_key_and_finds_a_variable_for_every_placeholder() -> None:
    known = json.loads(KNOWN.read_text())["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    assert {*TEMPLATE["job_configuration"]} <= {*known["job_configuration"]}
    assert {place.name for place in find_placeholders(TEMPLATE["job_configuration"])} == {*VARIABLES}
    own = {"service_account_name", "cluster_config", "cpu_limit"}  # of Prefect's own variables we have these not
    assert {*known["variables"]["properties"]} - {*VARIABLES} <= own


def test_the_variables_are_a_schema_whose_defaults_fit_it() -> None:
    schema = TEMPLATE["variables"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(
        {name: entry["default"] for name, entry in VARIABLES.items() if "default" in entry} | {"image": IMAGE}, schema
    )
    with pytest.raises(jsonschema.ValidationError, match="image"):
        jsonschema.validate({}, schema)


def test_a_pod_asks_for_the_gpus_the_node_and_the_shared_memory_that_a_run_wants() -> None:
    pod = job(gpus=2, node_selector={"gpu": "h800"}, shared_memory="64Gi")["spec"]["template"]["spec"]
    assert container(gpus=2)["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert pod["nodeSelector"] == {"gpu": "h800"}
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in container()["volumeMounts"]


def test_nuscenes_is_read_only_and_every_mount_has_its_volume() -> None:
    pod = job()["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}
    assert {*volumes} == {*mounts}
    assert mounts["nuscenes"]["readOnly"] is True
    assert volumes["nuscenes"]["persistentVolumeClaim"] == {"claimName": "nuscenes", "readOnly": True}
    assert container()["workingDir"] == mounts["work"]["mountPath"]


def test_a_pod_is_not_root_and_may_do_nothing_more() -> None:
    pod = job()["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == services["worker"]["user"]
    assert pod["automountServiceAccountToken"] is False
    own = container()["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & {*pod}


def test_a_secret_comes_from_kubernetes_and_never_from_the_server_of_prefect() -> None:
    env = {entry["name"]: entry for entry in container()["env"]}
    secret = {name for name in env if any(word in name for word in ("PASSWORD", "KEY", "AUTH_STRING", "USERNAME"))}
    assert len(secret) == 5
    for name in secret:
        assert env[name]["valueFrom"]["secretKeyRef"]["name"] == "fastdrive"
        assert "value" not in env[name]
    readme = (ROOT / "infra/README.md").read_text()
    assert not [
        env[name]["valueFrom"]["secretKeyRef"]["key"]
        for name in secret
        if env[name]["valueFrom"]["secretKeyRef"]["key"] not in readme
    ]


def test_a_run_that_ends_is_not_begun_again_by_kubernetes_and_has_time_to_save() -> None:
    spec = job()["spec"]
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 150  # flows/dvc.py STOP_S
