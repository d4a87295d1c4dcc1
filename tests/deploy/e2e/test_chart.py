"""The chart installed for real, by the lines of the guide."""

from cluster import Installation, calling, eventually, kubectl, pasted
from conftest import blocks

INSTALL, UNINSTALL, _ = blocks("Try it")[1].splitlines()


def test_the_chart_comes_serves_and_goes(figures):
    """Each line of the guide does what it says; what the chart installed answers callers of every way."""
    chart = Installation(namespace="togetherchat-dev")

    installed = pasted(INSTALL)
    chart.scale(2)
    address = chart.name("togetherchat")
    headless = {"headless": f"dns:///{chart.name('togetherchat-headless')}:50051"}
    with calling(grpc=headless, http=f"http://{address}:3000") as callers:
        seen = callers.ended()
    pasted(UNINSTALL)
    eventually("nothing is left", lambda: not chart.everything())
    kubectl("delete", "namespace", chart.namespace)

    figures("the chart", seen)
    assert "STATUS: deployed" in installed
    assert {"headless": [], "http": []} == {way: it["lost"] for way, it in seen.items()}
