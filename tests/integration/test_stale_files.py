"""A file that cannot be used any more is a metric, although no call needs it."""

import pytest

from support.app import running_app
from support.scraping import scraped
from support.tenants import Keys
from support.tokens import AUDIENCE, ISSUER, Key, jwks
from support.waiting import poll
from togetherchat_server.telemetry.metrics import definitions as names

pytest_plugins = ["support.tls_fixtures"]


def settings_for(setting, tmp_path, folder):
    """Return the settings with a file of the setting, and the path of the file."""
    path = tmp_path / setting
    if setting == "tls-cert-file":
        return folder.settings(), folder.certificate
    if setting == "jwt-jwks-file":
        path.write_bytes(jwks(Key("one")))
        return {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks_file": str(path)}, path
    keys = Keys(tmp_path / "keys")
    keys.create("acme")
    if setting == "tenants-file":
        path.write_text("[default]\nrequests_per_minute = 60\n")
        return {"api_keys_file": str(keys.path), "tenants_file": str(path)}, path
    return {"api_keys_file": str(keys.path)}, keys.path


@pytest.mark.parametrize("setting", ["api-keys-file", "tenants-file", "jwt-jwks-file", "tls-cert-file"])
async def test_a_stale_file_is_a_metric_until_it_is_restored(setting, tmp_path, folder):
    """Within about a second after the file became invalid, and after it is valid again."""
    settings, path = settings_for(setting, tmp_path, folder)
    good = path.read_bytes()
    async with running_app(**settings) as app:

        async def reads(expected):
            metrics = await scraped(app.addresses.admin)
            value = metrics.samples(names.FILE_STALE).get((setting,))
            return True if value == expected else None

        await poll(lambda: reads(0))
        path.write_bytes(b"neither of them")
        await poll(lambda: reads(1))
        path.unlink()
        await poll(lambda: reads(1))
        path.write_bytes(good)
        assert await poll(lambda: reads(0))
