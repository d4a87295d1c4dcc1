"""The models that the provider recently rejected for a key, although it may list them.

Owns these entries and their bounds. They only inform: no call is rejected because of them, and a model
that serves a call is removed at once. `calls/model_routing.py` adds and removes entries;
`list_cache.py` shows them.

Together lists models that it does not serve: 16 of 147 listed ids served a call when all were tried
in 2026. The list alone would show them as ACTIVE.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, final

TTL_S: Final = 900.0
KEYS_MAX: Final = 256
MODELS_MAX: Final = 64


@final
class UnavailableModels:
    """Model ids by upstream key, each for `ttl_s`.

    The most recent `keys_max` keys are kept, and the most recent `models_max` models of each. A caller
    that requests a thousand invented models evicts only entries of its own key.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        ttl_s: float = TTL_S,
        keys_max: int = KEYS_MAX,
        models_max: int = MODELS_MAX,
    ) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._keys_max = keys_max
        self._models_max = models_max
        self._expires_s: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def add(self, key: str, model: str) -> None:
        """Add a model that the provider rejected for the key with this fingerprint."""
        models = self._expires_s.setdefault(key, OrderedDict())
        self._expires_s.move_to_end(key)
        models[model] = self._clock() + self._ttl_s
        models.move_to_end(model)
        while len(models) > self._models_max:
            models.popitem(last=False)
        while len(self._expires_s) > self._keys_max:
            self._expires_s.popitem(last=False)

    def discard(self, key: str, model: str) -> None:
        """Remove a model that has served a call."""
        models = self._expires_s.get(key)
        if models is not None and models.pop(model, None) is not None and not models:
            del self._expires_s[key]

    def of(self, key: str) -> frozenset[str]:
        """Return the unavailable models of a key."""
        models = self._expires_s.get(key)
        if models is None:
            return frozenset()
        now_s = self._clock()
        while models and next(iter(models.values())) <= now_s:  # the oldest is first
            models.popitem(last=False)
        if not models:
            del self._expires_s[key]
        return frozenset(models)

    def __bool__(self) -> bool:
        """Return whether there is any entry. Usually there is none, so a call need not look one up."""
        return bool(self._expires_s)
