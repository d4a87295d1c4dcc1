"""Which models the provider lately refused to which key, although it may list them.

Owns that memory and its bounds. It informs: nobody asks it before a call, and a model that
answers again is forgotten at once. Fed by `calls/routing.py`, shown by `directory.py`.

Together lists models that it does not serve (16 of 147 listed ids answered when somebody tried
them all, 2026): the list alone would call them ACTIVE.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import final

REMEMBERED_S = 900.0
KEYS_MAX = 256
MODELS_MAX = 64


@final
class UnavailableModels:
    """Model ids by upstream key, each for `remembered_s`.

    The `keys_max` keys and, of each, the `models_max` models that were refused last are kept:
    a caller who asks for a thousand inventions pushes out nobody else's.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        remembered_s: float = REMEMBERED_S,
        keys_max: int = KEYS_MAX,
        models_max: int = MODELS_MAX,
    ) -> None:
        self._clock = clock
        self._remembered_s = remembered_s
        self._keys_max = keys_max
        self._models_max = models_max
        self._until_s: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def add(self, key: str, model: str) -> None:
        """The provider said that `model` is not to be had with the key of this fingerprint."""
        models = self._until_s.setdefault(key, OrderedDict())
        self._until_s.move_to_end(key)
        models[model] = self._clock() + self._remembered_s
        models.move_to_end(model)
        while len(models) > self._models_max:
            models.popitem(last=False)
        while len(self._until_s) > self._keys_max:
            self._until_s.popitem(last=False)

    def discard(self, key: str, model: str) -> None:
        """It answered after all."""
        models = self._until_s.get(key)
        if models is not None and models.pop(model, None) is not None and not models:
            del self._until_s[key]

    def of(self, key: str) -> frozenset[str]:
        """What is remembered of this key now."""
        models = self._until_s.get(key)
        if models is None:
            return frozenset()
        now_s = self._clock()
        while models and next(iter(models.values())) <= now_s:  # the oldest stands first
            models.popitem(last=False)
        if not models:
            del self._until_s[key]
        return frozenset(models)

    def __bool__(self) -> bool:
        """Whether anything is remembered of anyone: most of the time nothing is."""
        return bool(self._until_s)
