"""LangChain's standard tests of chat models, for ChatOpenAI and ChatTogether, against the HTTP listener.

The tests are langchain-tests' own. What this file decides is which features the models have: a feature that is
off has its reason beside it. Its tests are then skipped by the suite.
"""

import base64

import httpx
import pytest
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests, chat_models
from langchain_together import ChatTogether

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
OTHER_MODEL = "Qwen/Qwen2.5-7B-Instruct-Turbo"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Standard(ChatModelIntegrationTests):
    """The features that both models have through the service."""

    @pytest.fixture(autouse=True)
    def _served(self, base_url, monkeypatch):
        self.base_url = base_url
        # The suite downloads a picture and a sound; any file will do, and nothing leaves this machine.
        monkeypatch.setattr(chat_models.httpx, "get", lambda url, **_: httpx.Response(200, content=PIXEL))

    @property
    def chat_model_params(self):
        return {"model": MODEL, "api_key": "tok_any", "base_url": self.base_url}

    @property
    def model_override_value(self):
        return OTHER_MODEL

    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_audio_inputs = True
    # Together's API has no part for files.
    supports_pdf_inputs = False
    supports_pdf_tool_message = False
    # The suite would replay recorded traffic; here a real service responds.
    enable_vcr_tests = False

    @property
    def supported_usage_metadata_details(self):
        details = ["reasoning_output", "cache_read_input"]
        return {"invoke": details, "stream": details}

    def invoke_with_reasoning_output(self, *, stream=False):
        return self._response("sandbox/reasoning", stream=stream)

    def invoke_with_cache_read_input(self, *, stream=False):
        return self._response("sandbox/prompt-cache", stream=stream)

    def _response(self, model, *, stream):
        chat = self.chat_model_class(**{**self.chat_model_params, "model": model})
        if not stream:
            return chat.invoke("Hello")
        first, *rest = chat.stream("Hello")
        response = sum(rest, first)
        assert isinstance(response, AIMessage)
        return response


class TestChatOpenAI(Standard):
    """ChatOpenAI of langchain-openai."""

    supports_anthropic_inputs = True

    @property
    def chat_model_class(self):
        return ChatOpenAI


class TestChatTogether(Standard):
    """ChatTogether of langchain-together."""

    supports_anthropic_inputs = True

    @property
    def chat_model_class(self):
        return ChatTogether
