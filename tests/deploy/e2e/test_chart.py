"""The chart installed for real, by the lines of the guide, after the overlay has been removed by them."""

from cluster import Installation, calling, eventually, pasted
from conftest import blocks

INSTALL, UNINSTALL, DELETE = blocks("Try it")[1].splitlines()


def test_the_overlay_goes_and_the_chart_comes_and_goes(dev, figures):
    """Each line of the guide does what it says; what the chart installed answers callers of every way."""
    pasted(DELETE)
    chart = Installation(namespace=dev.namespace)

    installed = pasted(INSTALL)
    chart.rolled_out()
    chart.scale(2)
    address = chart.name("togetherchat")
    headless = {"headless": f"dns:///{chart.name('togetherchat-headless')}:50051"}
    with calling(grpc=headless, http=f"http://{address}:3000") as callers:
        seen = callers.ended()
    pasted(UNINSTALL)

    figures("the chart", seen)
    assert "STATUS: deployed" in installed
    assert {"headless": [], "http": []} == {way: it["lost"] for way, it in seen.items()}
    eventually("nothing is left", lambda: not chart.everything())
