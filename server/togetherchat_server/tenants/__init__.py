"""Who may call, and how much: the keys of tenants, and the limits of each.

`keys` and its file say whose a call is, `limits` what a tenant may, `quotas` what it has used. `gate`
is what the rest of the service sees of all that. Knows no front and no provider.
"""
