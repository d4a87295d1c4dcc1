"""Usage and quotas over HTTP: `/usage.json`, `/usage.csv` and `/quotas.json`."""
