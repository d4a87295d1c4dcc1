"""Callers with tokens of service accounts, by the commands of the guide.

The real API server and kubelet issue the tokens, and the service verifies them with the keys of the API server.
"""

import base64
import json
import os
import subprocess
import time

import pytest
import yaml
from cluster import kubectl, paste
from cluster import objects as existing
from guide import blocks
from operator_folder import NAMES, list_models_as, write_overlay
from rendered import ToolError

TITLE = "Callers with service-account tokens"
APPLY, CALL_FROM_A_POD, CALL_FROM_OUTSIDE = blocks(TITLE)
CREATE_ACCOUNT, SEPARATOR, CREATE_POD = CALL_FROM_A_POD.partition("kubectl apply")
OVERLAY, POLICY, CALLER = blocks(TITLE, "yaml")
(TENANTS,) = blocks(TITLE, "toml")
AUDIENCE = "--audience=togetherchat"


@pytest.fixture(scope="module")
def service(production, folder):
    """The installation with the component, and the namespace of a tenant with an account."""
    kubectl("create", "namespace", "payments")
    # As an administrator may. Without it, only the binding of the component lets the pods read the keys.
    kubectl("delete", "clusterrolebinding", "system:service-account-issuer-discovery")
    issuer = json.loads(kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    write_overlay(folder, yaml.safe_load(OVERLAY.replace("<issuer>", issuer)))
    (folder / "tenants.toml").write_text(TENANTS, encoding="utf-8")
    (folder / "to-api-server.yaml").write_text(
        POLICY.replace("<address>", address_of_the_api_server()), encoding="utf-8"
    )
    (folder / "caller.yaml").write_text(CALLER, encoding="utf-8")
    paste(APPLY.replace("<your overlay>", "mine"), folder)
    yield production
    kubectl("delete", "namespace", "payments")


@pytest.fixture(scope="module")
def account(service, folder):
    """The account that the commands create: namespace and name."""
    paste(CREATE_ACCOUNT, folder)
    return "payments", "checkout"


def address_of_the_api_server():
    """An address as `kubectl get endpointslices` of the guide prints it."""
    (found,) = existing(
        "endpointslices", "--namespace", "default", "--selector", "kubernetes.io/service-name=kubernetes"
    )
    return found["endpoints"][0]["addresses"][0]


def requested_token(account, *words):
    """A token of an account, from the API server."""
    namespace, name = account
    return kubectl("--namespace", namespace, "create", "token", name, *words).strip()


def signed_again(token, **claims):
    """The token with other claims, signed with the key of the cluster."""
    head, body, _ = token.split(".")
    changed = {**json.loads(base64.urlsafe_b64decode(body + "==")), **claims}
    signed = f"{head}.{_encoded(json.dumps(changed).encode())}"
    words = ["openssl", "dgst", "-sha256", "-sign", os.environ["E2E_ACCOUNTS_KEY"]]
    signature = subprocess.run(words, input=signed.encode(), capture_output=True, check=True).stdout
    return f"{signed}.{_encoded(signature)}"


def test_a_pod_calls_with_its_projected_token(account, folder):
    """The pod of the guide ends with success: the token of the kubelet is accepted over TLS, without any key."""
    output = paste(SEPARATOR + CREATE_POD, folder)

    _, condition_met, completion = output.partition("pod/checkout condition met\n")
    assert condition_met, output
    assert completion.strip()


def test_a_requested_token_is_accepted_from_outside(account, folder):
    """The commands of the guide work: port-forward, a token for ten minutes, grpcurl."""
    assert "FINISH_REASON_STOP" in paste(CALL_FROM_OUTSIDE, folder)


def test_a_token_is_accepted_over_http(account, folder):
    """The same token works in the header of OpenAI-compatible HTTP."""
    token = requested_token(account, AUDIENCE)
    url = f"https://{NAMES[0]}:3000/v1/models"

    assert '"object":"list"' in paste(
        f"curl --cacert ca.crt -H 'authorization: Bearer {token}' {url}", folder
    )


@pytest.mark.parametrize("audience", [["--audience=another-service"], []], ids=["another", "the-api-server"])
def test_a_token_for_another_audience_is_rejected(account, folder, audience):
    """A token that another service received, or one for the API server, cannot call this service."""
    response = list_models_as(folder, requested_token(account, *audience))

    assert rejection("the token is for another audience") in response


def test_an_account_that_no_tenant_lists_is_rejected(account, folder):
    """An account in a namespace without a tenant has a valid token with the right audience, and is rejected."""
    response = list_models_as(folder, requested_token(("default", "default"), AUDIENCE))

    assert rejection("no tenant of this service lists the holder of the token") in response


def test_an_expired_token_is_rejected(account, folder):
    """The same token, signed with the key of the cluster, is accepted before its end and rejected after it."""
    token = requested_token(account, AUDIENCE)
    now_s = int(time.time())
    ages = [(-1800, -900), (-1800, 900)]

    expired, valid = (
        list_models_as(folder, signed_again(token, iat=now_s + start, nbf=now_s + start, exp=now_s + end))
        for start, end in ages
    )

    assert rejection("the token has expired") in expired
    assert '"models"' in valid


def test_a_token_that_the_cluster_did_not_sign_is_rejected(account, folder):
    """The signature of another token does not sign the claims."""
    token, other = (requested_token(account, AUDIENCE, f"--duration={it}") for it in ("10m", "20m"))
    forged = ".".join([*token.split(".")[:2], other.split(".")[2]])

    assert rejection("the token's signature is wrong") in list_models_as(folder, forged)


def test_the_account_of_the_pods_reads_keys_and_nothing_else(service):
    """The API server permits the account to read its public keys, and neither Secrets nor pods."""
    words = (
        "auth",
        "can-i",
        "--as=system:serviceaccount:togetherchat:togetherchat",
        "--namespace=togetherchat",
    )

    assert "yes" == kubectl(*words, "get", "/openid/v1/jwks").strip()
    for verb, kind in (("get", "secrets"), ("list", "pods")):
        with pytest.raises(ToolError, match=r"^no"):
            kubectl(*words, verb, kind)


def test_the_keys_of_callers_work_beside_tokens(service, folder):
    """A key that was created before is still accepted."""
    key = (folder / "acme.key").read_text("ascii").strip()

    assert '"models"' in list_models_as(folder, key)


def rejection(message):
    """The status that grpcurl prints."""
    return f"Code: Unauthenticated\n  Message: {message}"


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
