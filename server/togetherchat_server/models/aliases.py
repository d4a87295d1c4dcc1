"""Names of our own for models: what each stands for in the end.

Owns the rules that a set of aliases must keep, and what is done with a name in a request.
Knows neither how aliases are written down (`config`) nor who asks for a model
(`calls/routing.py`).
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from togetherchat_server.config import Configuration, SettingsError, is_together
from togetherchat_server.models.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNames:
    """What a name in a request stands for."""

    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    """A name of ours to the id that is asked for."""
    replacements: Mapping[str, str] = field(default_factory=dict[str, str])
    """An id to the one that the provider names as its successor; for when it is refused."""

    def id_of(self, name: str) -> str:
        return self.aliases.get(name, name)

    def all(self) -> dict[str, str]:
        """Every name under which a model is accepted beside its id."""
        return {**self.replacements, **self.aliases}


NO_NAMES: Final = ModelNames()


def resolve_aliases(configuration: Configuration, catalog: Catalog) -> ModelNames:
    """The names that were set, and the successors that the catalogue knows.

    A target must be listed where the upstream is Together's own: of another engine's models the
    catalogue knows nothing.

    Raises:
        SettingsError: as `resolved_aliases`.
    """
    settings, provider = configuration.settings, configuration.provider
    any_target = settings.alias_unlisted or provider is None or not is_together(provider.base_url)
    return ModelNames(
        aliases=resolved_aliases(settings.alias, listed=None if any_target else catalog.by_id),
        replacements=catalog.replacements if settings.replace_retired else {},
    )


def resolved_aliases(named: Mapping[str, str], *, listed: Container[str] | None) -> dict[str, str]:
    """Each alias with the id that it stands for, through other aliases where it names one.

    `listed` is what a target may be beside an alias; None lets it be anything.

    Raises:
        SettingsError: aliases go in a circle, or lead to a model that is not listed.
    """
    resolved = {name: _end_of(name, named) for name in named}
    for name, model in resolved.items():
        if listed is not None and model not in listed:
            raise SettingsError(
                f"--alias {name}={named[name]}: {model} is neither a model of the catalogue nor an alias; "
                "for a private model say --alias-unlisted"
            )
    return resolved


def _end_of(name: str, named: Mapping[str, str]) -> str:
    way = [name]
    while (target := named[way[-1]]) in named:
        if target in way:
            raise SettingsError(f"--alias goes in a circle: {' -> '.join([*way, target])}")
        way.append(target)
    return target
