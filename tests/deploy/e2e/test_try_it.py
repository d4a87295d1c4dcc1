"""A newcomer deploys the dev overlay with the lines of the guide."""


def test_the_lines_of_the_guide_work(tried):
    """Applied, rolled out, forwarded, and called by gRPC and HTTP: pasted as they stand there."""
    print(tried[:3000])
    assert "deployment.apps/togetherchat created" in tried
    assert 'deployment "togetherchat" successfully rolled out' in tried
    assert '"object":"list"' in tried
