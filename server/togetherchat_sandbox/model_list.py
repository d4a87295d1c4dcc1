"""The model list: a dozen of Together's ids as documented in late 2026, and the sandbox's own.

Owns dated data and its JSON form. The sandbox accepts any model id; only the context length is
looked up here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from togetherchat_sandbox.encoding import JsonObject

CONTEXT_TOKENS = 131_072
CREATED = 1_767_225_600  # the first second of 2026
FREE = (0.0, 0.0)
UNLISTED_DOLLARS = (0.2, 0.6)
"""What the bill charges for models that the list does not price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """An entry of the list. `dollars` per million tokens: input, output.

    `dollars_cached` is the price of input from the prompt cache, which the list does not show.
    """

    id: str
    name: str
    organization: str
    context_tokens: int = CONTEXT_TOKENS
    dollars: tuple[float, float] = FREE
    dollars_cached: float | None = None
    type: str = "chat"
    license: str = ""
    created: int = CREATED


# From the table of serverless models in Together's documentation, about October 2026.
MODELS: tuple[ListedModel, ...] = (
    ListedModel(id="meta-llama/Llama-3.3-70B-Instruct-Turbo", name="Llama 3.3 70B Instruct Turbo",
                organization="Meta", dollars=(1.04, 1.04), license="Llama-3.3", created=1_733_443_200),
    ListedModel(id="meta-models/Muse-Glimmer-30B", name="Muse Glimmer 30B", organization="Meta",
                dollars=(0.35, 1.5), dollars_cached=0.04),
    ListedModel(id="Qwen/Qwen2.5-7B-Instruct-Turbo", name="Qwen2.5 7B Instruct Turbo", organization="Qwen",
                context_tokens=32_768, dollars=(0.3, 0.3), license="apache-2.0", created=0),
    ListedModel(id="Qwen/Qwen3.5-9B", name="Qwen3.5 9B", organization="Qwen", context_tokens=262_144,
                dollars=(0.17, 0.25), license="apache-2.0"),
    ListedModel(id="Qwen/Qwen3.8-Flash", name="Qwen3.8 Flash", organization="Qwen", context_tokens=1_000_000,
                dollars=(0.09, 0.282)),
    ListedModel(id="deepseek-ai/DeepSeek-V4-Pro-0813", name="DeepSeek V4 Pro", organization="DeepSeek",
                context_tokens=1_048_576, dollars=(1.32, 3.96), dollars_cached=0.13, license="mit"),
    ListedModel(id="deepseek-ai/DeepSeek-V4.1-Flash", name="DeepSeek V4.1 Flash", organization="DeepSeek",
                context_tokens=1_000_000, dollars=(0.3, 1.2), dollars_cached=0.006, license="mit"),
    ListedModel(id="moonshotai/Kimi-K3", name="Kimi K3", organization="Moonshot AI", context_tokens=1_048_576,
                dollars=(3, 15), dollars_cached=0.3, license="modified-mit"),
    ListedModel(id="openai/gpt-oss-120b", name="gpt-oss 120B", organization="OpenAI", dollars=(0.15, 0.6),
                license="apache-2.0"),
    ListedModel(id="zai-org/GLM-5.2", name="GLM 5.2", organization="Z.ai", context_tokens=1_048_575,
                dollars=(1.4, 4.4), dollars_cached=0.26, license="mit"),
    ListedModel(id="zai-org/GLM-5.3-Flash", name="GLM 5.3 Flash", organization="Z.ai",
                context_tokens=1_048_575, dollars=(0.15, 0.5), dollars_cached=0.03, license="mit"),
    ListedModel(id="Prism-ML/Ternary-Bonsai-27B", name="Ternary Bonsai 27B", organization="Prism ML",
                context_tokens=262_144),
    ListedModel(id="intfloat/multilingual-e5-large-instruct", name="Multilingual E5 Large Instruct",
                organization="intfloat", context_tokens=514, dollars=(0.02, 0.02), type="embedding",
                license="mit"),
)  # fmt: skip

_BY_ID = {model.id: model for model in MODELS}


def context_tokens(model_id: str) -> int:
    """Return the context length of a model: input and output tokens together."""
    model = _BY_ID.get(model_id)
    return model.context_tokens if model else CONTEXT_TOKENS


def listed(model_id: str) -> ListedModel:
    """Return the entry by which the bill charges a model."""
    model = _BY_ID.get(model_id)
    return model or ListedModel(id=model_id, name="", organization="", dollars=UNLISTED_DOLLARS)


def list_models(sandbox_ids: Iterable[str]) -> list[JsonObject]:
    """Return the body of `GET /v1/models`: a bare array that ends with `sandbox_ids`."""
    own = (
        ListedModel(id=each, name=each, organization="togetherchat sandbox", created=0)
        for each in sandbox_ids
    )
    return [_entry(model) for model in (*MODELS, *own)]


def _entry(model: ListedModel) -> JsonObject:
    dollars_in, dollars_out = model.dollars
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "type": model.type,
        "running": False,
        "display_name": model.name,
        "organization": model.organization,
        "link": f"https://huggingface.co/{model.id}" if model.license else "",
        "license": model.license,
        "context_length": model.context_tokens,
        "config": {"chat_template": None, "stop": [], "bos_token": None, "eos_token": None},
        "pricing": {"hourly": 0, "input": dollars_in, "output": dollars_out, "base": 0, "finetune": 0},
    }
