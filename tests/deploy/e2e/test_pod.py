"""What a real pod is: confined as the manifests say, drained, and cautious with settings."""

import json

import pytest
from cluster import calling, eventually
from rendered import RefusedError

STATUS = "dict(line.split(':\\t', 1) for line in open('/proc/1/status').read().splitlines())"


def test_its_first_process_has_no_rights(dev):
    """Not root, no capability, no way to new ones, system calls filtered."""
    said = dev.inside(
        f"import json; it = {STATUS}; "
        "print(json.dumps([it[name].split()[0] for name in ('Uid', 'Gid', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp')]))"
    )

    assert ["65532", "65532", "0" * 16, "0" * 16, "1", "2"] == json.loads(said)


@pytest.mark.parametrize("folder", ["/", "/opt", "/etc/togetherchat", "/var", "/usr"])
def test_nothing_in_its_root_can_be_written(dev, folder):
    """Not even where the user had the right."""
    with pytest.raises(RefusedError, match=r"Read-only file system|No such file"):
        dev.inside(f"open('{folder}/a-file', 'w')")


def test_it_holds_no_token_of_the_cluster(dev):
    """What takes over the process has no account at the API server."""
    assert "False" == dev.inside("import os; print(os.path.exists('/var/run/secrets/kubernetes.io'))")


def test_a_stream_outlives_the_deletion_of_its_pod(dev, figures):
    """`kubectl delete pod` while streams and calls run: they complete, and the pod ends with status 0."""
    dev.scale(1)
    (old,) = dev.ready()
    with calling(grpc={"service": f"dns:///{dev.name('togetherchat')}:50051"}) as callers:
        before = callers.more()["service"]
        end = dev.watched_end(old)
        dev.kubectl("delete", "pod", old, "--wait=false")
        eventually("the pod is gone", lambda: dev.gone({old}))
        after = callers.more()["service"]
        seen = callers.ended()

    figures("deletion of a pod", seen)
    assert [] == seen["service"]["lost"]
    assert after["streamed"] > before["streamed"]
    assert 0 == end()


def test_a_drain_that_is_too_short_is_seen(dev):
    """The check above is none that lets everything pass: with a second to finish, streams are told DRAINING."""
    dev.with_flags("--drain-delay-s=0", "--drain-timeout-s=1.5")
    dev.rolled_out()
    dev.scale(1)
    (old,) = dev.ready()
    with calling(grpc={"service": f"dns:///{dev.name('togetherchat')}:50051"}) as callers:
        dev.kubectl("delete", "pod", old, "--wait=false")
        eventually("the pod is gone", lambda: dev.gone({old}))
        seen = callers.ended()
    dev.kubectl("rollout", "undo", "deployment/togetherchat")
    dev.rolled_out()

    assert any("DRAINING" in lost for lost in seen["service"]["lost"])


def test_a_misspelt_setting_stops_the_rollout_and_nothing_else(dev):
    """The new pod does not start and says which; the old one goes on; `rollout undo` mends it."""
    old = dev.ready()
    dev.with_flags("--drian-s=120")
    eventually("the new pod has ended", dev.failing)
    (failing,) = dev.failing()
    eventually("its log is there", lambda: dev.kubectl("logs", failing))

    said = dev.kubectl("logs", failing)
    ready = dev.ready()
    dev.kubectl("rollout", "undo", "deployment/togetherchat")
    dev.rolled_out()
    eventually("the new pod is gone", lambda: dev.gone({failing}))

    assert old == ready == dev.ready()
    assert 1 == len(said.splitlines())
    assert "--drian-s" in said
