"""Tenants: who calls, what each tenant may use, and how much it has used.

`Authenticator` maps a credential to a tenant, `TenantPolicy` decides about models and output, and
`TenantQuota` counts calls, requests and tokens. The package knows no frontend and no provider.
"""
