"""Model aliases: the operator's own names for models, and the ids that they resolve to.

Owns the rules for a set of aliases. Knows neither their syntax (`config`) nor the calls that use them
(`calls/model_routing.py`).
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from togetherchat_server.config import Configuration, SettingsError, is_together
from togetherchat_server.models.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAliases:
    """Resolves the name of a model in a request to a model id."""

    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    """An alias to the model id that it resolves to."""
    replacements: Mapping[str, str] = field(default_factory=dict[str, str])
    """A model id to its successor, which is used when the provider rejects the model."""

    def resolve(self, name: str) -> str:
        """Return the model id of a name. A name that is not an alias is an id."""
        return self.aliases.get(name, name)

    def all(self) -> dict[str, str]:
        """Return every name under which a model is accepted beside its id."""
        return {**self.replacements, **self.aliases}


NO_ALIASES: Final = ModelAliases()


def resolve_aliases(configuration: Configuration, catalog: Catalog) -> ModelAliases:
    """Return the aliases of the settings, and the successors of the catalog.

    If the provider is Together, the catalog must list an alias's target, unless the catalog is empty. The
    catalog does not know the models of other providers.

    Raises:
        SettingsError: as for `resolve_chains`.
    """
    settings, provider = configuration.settings, configuration.provider
    is_checked = provider is not None and is_together(provider.base_url) and bool(catalog.by_id)
    listed = catalog.by_id if is_checked and not settings.alias_unlisted else None
    return ModelAliases(
        aliases=resolve_chains(settings.alias, listed=listed),
        replacements=catalog.replacements if settings.replace_retired else {},
    )


def resolve_chains(aliases: Mapping[str, str], *, listed: Container[str] | None) -> dict[str, str]:
    """Return each alias with the model id at the end of its chain of aliases.

    `listed` are the valid model ids; None means that every id is valid.

    Raises:
        SettingsError: a chain is a cycle, or ends at a model that is not listed.
    """
    resolved = {name: _end_of_chain(name, aliases) for name in aliases}
    for name, model in resolved.items():
        if listed is not None and model not in listed:
            raise SettingsError(
                f"--alias {name}={aliases[name]}: {model} is neither a model of the catalog nor an alias; "
                "set --alias-unlisted to use a private model"
            )
    return resolved


def _end_of_chain(name: str, aliases: Mapping[str, str]) -> str:
    chain = [name]
    while (target := aliases[chain[-1]]) in aliases:
        if target in chain:
            raise SettingsError(f"--alias: the aliases form a cycle: {' -> '.join([*chain, target])}")
        chain.append(target)
    return target
