"""The production overlay, deployed by the commands of the guide: Secrets, keys, TLS, scaling.

The provider is simulated.
"""

import pytest
from cluster import paste, wait_until
from guide import blocks
from operator_folder import CALL, list_models, list_models_as
from rendered import ToolError

(CHANGE,) = (text for text in blocks("Keys and certificates") if "keys revoke" in text)


def test_the_autoscaler_keeps_its_minimum_of_pods(production):
    """Three pods are ready, and their unprivileged user can read the Secrets."""
    wait_until("three pods are ready", lambda: 3 == len(production.ready()))

    assert {0} == {it["status"]["containerStatuses"][0]["restartCount"] for it in production.pods().values()}


def test_a_call_with_a_key_over_tls_succeeds(production, folder):
    """The commands of the guide work: port-forward, grpcurl with the descriptor set, curl."""
    wait_until("a pod is ready", production.ready)

    output = paste(CALL, folder)

    assert "FINISH_REASON_STOP" in output
    assert '"object":"list"' in output


def list_models_with_key(folder, key):
    """Call ListModels with the key in a file."""
    return list_models_as(folder, (folder / key).read_text("ascii").strip())


def test_a_call_without_a_key_is_rejected(production, folder):
    """The certificate is valid, but the key is missing."""
    wait_until("a pod is ready", production.ready)

    with pytest.raises(ToolError, match="MISSING_CREDENTIALS"):
        list_models(folder)


def test_keys_change_without_a_restart(production, folder):
    """The commands of the guide change the Secret, and the running pods use the new keys."""
    wait_until("a pod is ready", production.ready)
    before = list_models_with_key(folder, "acme.key")

    paste(CHANGE, folder)
    wait_until(
        "the old key is rejected", lambda: "INVALID_CREDENTIALS" in list_models_with_key(folder, "acme.key")
    )
    wait_until("the new key is accepted", lambda: '"models"' in list_models_with_key(folder, "acme-2.key"))

    assert '"models"' in before
    assert {0} == {it["status"]["containerStatuses"][0]["restartCount"] for it in production.pods().values()}


def test_the_guide_creates_a_prometheus_rule(production, folder):
    """The operator's schema accepts the alerts that the command of the guide wraps."""
    (line,) = blocks("Monitoring")

    assert "prometheusrule.monitoring.coreos.com/togetherchat created" in paste(line, folder)
