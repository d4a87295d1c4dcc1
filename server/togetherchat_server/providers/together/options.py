"""What an operator can switch in the requests to the provider."""

from collections.abc import Callable
from dataclasses import dataclass

from togetherchat.v1 import models_pb2 as models


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderOptions:
    """The switches, and what is known of models."""

    forward_user: bool = True
    """Whether the provider receives `CompleteRequest.user`."""
    adapt_reasoning_effort: bool = True
    """Whether an effort that the model does not know is replaced."""
    prompt_cache_affinity: bool = False
    """Whether requests without a `prompt_cache_key` get one."""
    serverless_list: bool = False
    """Whether the provider has a list of its serverless models beside the one of all models."""
    catalog_entry: Callable[[str], models.Model | None] = lambda _: None
    """The catalog's entry of a model id; None if there is none."""
