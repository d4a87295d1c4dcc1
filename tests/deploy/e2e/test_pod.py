"""A real pod: its confinement, its drain, and its reaction to a wrong setting."""

import json

import pytest
from cluster import calling, wait_until
from rendered import ToolError

STATUS = "dict(line.split(':\\t', 1) for line in open('/proc/1/status').read().splitlines())"


def test_the_first_process_has_no_privileges(dev):
    """The process is not root, has no capabilities, cannot gain any, and has a seccomp filter."""
    output = dev.run_python(
        f"import json; status = {STATUS}; "
        "print(json.dumps([status[name].split()[0] for name in ('Uid', 'Gid', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp')]))"
    )

    assert ["65532", "65532", "0" * 16, "0" * 16, "1", "2"] == json.loads(output)


@pytest.mark.parametrize("folder", ["/", "/opt", "/etc/togetherchat", "/var", "/usr"])
def test_the_root_file_system_is_read_only(dev, folder):
    """A process in the pod cannot create a file in any folder."""
    with pytest.raises(ToolError, match=r"Read-only file system|No such file"):
        dev.run_python(f"open('{folder}/a-file', 'w')")


def test_the_pod_has_no_service_account_token(dev):
    """A process in the pod has no credentials for the API server."""
    assert "False" == dev.run_python("import os; print(os.path.exists('/var/run/secrets/kubernetes.io'))")


def test_deleting_a_pod_loses_no_call(dev, report_calls):
    """Calls and streams in flight complete when their pod is deleted, and the pod exits with status 0."""
    dev.scale(1)
    (old,) = dev.ready()
    with calling(grpc={"service": f"dns:///{dev.dns_name('togetherchat')}:50051"}) as callers:
        # The callers stay connected to the old pod. The second pod serves them after the drain: on a busy machine
        # the replacement of the old pod starts later.
        dev.scale(2)
        before = callers.more()["service"]
        exit_status = dev.watch_exit(old)
        dev.kubectl("delete", "pod", old, "--wait=false")
        wait_until("the pod is gone", lambda: dev.gone({old}))
        after = callers.more()["service"]
        results = callers.finish()

    report_calls("deletion of a pod", results)
    assert [] == results["service"]["lost"]
    assert after["streamed"] > before["streamed"]
    assert 0 == exit_status()


def test_a_drain_timeout_that_is_too_short_fails_streams(dev):
    """The previous test can fail: with one second to finish, streams fail with DRAINING."""
    dev.add_flags("--drain-delay-s=0", "--drain-timeout-s=1.5")
    dev.wait_for_rollout()
    dev.scale(1)
    (old,) = dev.ready()
    with calling(grpc={"service": f"dns:///{dev.dns_name('togetherchat')}:50051"}) as callers:
        dev.kubectl("delete", "pod", old, "--wait=false")
        wait_until("the pod is gone", lambda: dev.gone({old}))
        results = callers.finish()
    dev.kubectl("rollout", "undo", "deployment/togetherchat")
    dev.wait_for_rollout()

    assert any("DRAINING" in lost for lost in results["service"]["lost"])


def test_a_misspelled_setting_stops_the_rollout(dev):
    """The new pod exits and logs the setting, the old pod serves on, and `rollout undo` restores the Deployment."""
    old = dev.ready()
    dev.add_flags("--drian-s=120")
    wait_until("the new pod has exited", dev.failing)
    (failing,) = dev.failing()
    # Read once: after a restart of the container the log is empty at first.
    log = wait_until("its log is available", lambda: dev.kubectl("logs", failing))

    ready = dev.ready()
    dev.kubectl("rollout", "undo", "deployment/togetherchat")
    dev.wait_for_rollout()
    wait_until("the new pod is gone", lambda: dev.gone({failing}))

    assert old == ready == dev.ready()
    assert 1 == len(log.splitlines())
    assert "--drian-s" in log
