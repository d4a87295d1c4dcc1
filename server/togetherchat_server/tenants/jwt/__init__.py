"""JWT callers: an issuer's keys, the checks of a token, and the claim that names its tenant.

Imported on use: PyJWT and cryptography are optional dependencies.
"""
