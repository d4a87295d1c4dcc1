"""The Helm chart, installed and removed by the commands of the guide."""

from cluster import Installation, calling, kubectl, paste, wait_until
from guide import blocks

INSTALL, UNINSTALL, _ = blocks("Try it")[1].splitlines()


def test_the_chart_installs_serves_and_uninstalls(report_calls):
    """The installed chart serves calls on every path, and `helm uninstall` removes all of it."""
    chart = Installation(namespace="togetherchat-dev")

    installed = paste(INSTALL)
    chart.scale(2)
    chart.wait_until_reachable("togetherchat", 3000)
    service = chart.dns_name("togetherchat")
    headless = {"headless": f"dns:///{chart.dns_name('togetherchat-headless')}:50051"}
    with calling(grpc=headless, http=f"http://{service}:3000") as callers:
        results = callers.finish()
    paste(UNINSTALL)
    wait_until("every object is removed", lambda: not chart.everything())
    kubectl("delete", "namespace", chart.namespace)

    report_calls("the chart", results)
    assert "STATUS: deployed" in installed
    assert {"headless": [], "http": []} == {path: it["lost"] for path, it in results.items()}
