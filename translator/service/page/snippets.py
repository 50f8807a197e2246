"""Snippets: how each client is set up for this service, ready to be copied.

    base URL, model, key  ──►  one text for each client

A model's id is whatever an upstream calls it, so each text quotes it by the rules of its language.
tests/clients/test_page_snippets.py runs those of SDKs, curl and Codex as they are.
"""

from __future__ import annotations

import json
import shlex

from msgspec import Struct

NO_KEY = "none"
"""The key where none is needed: clients do not start without one."""


class Snippet(Struct, frozen=True):
    """A text to copy, and where it goes."""

    id: str
    client: str
    where: str
    text: str


class Target(Struct, frozen=True, kw_only=True):
    """What the snippets are for; all of it is printable.

    `key_env` is the environment variable of the key; None: no key is needed.
    """

    base_url: str
    model: str
    key_env: str | None


def quoted(text: str) -> str:
    """A string literal of JSON, TOML, Python and JavaScript alike."""
    return json.dumps(text, ensure_ascii=False)


def snippets(target: Target) -> list[Snippet]:
    """The snippets of all clients, in the order of the page."""
    url, model, env = target.base_url, target.model, target.key_env
    python_key = quoted(NO_KEY) if env is None else f"os.environ[{quoted(env)}]"
    node_key = quoted(NO_KEY) if env is None else f"process.env.{env}"
    config_key = quoted(NO_KEY if env is None else f"{{env:{env}}}")
    imports = "" if env is None else "import os\n\n"
    exported = "" if env is None else f"export {env}=...   # your key\n"
    return [
        Snippet(
            "codex",
            "Codex CLI",
            "In ~/.codex/config.toml, then: codex",
            f"model = {quoted(model)}\n"
            'model_provider = "translator"\n\n'
            "[model_providers.translator]\n"
            'name = "translator"\n'
            f"base_url = {quoted(url)}\n"
            'wire_api = "responses"' + ("" if env is None else f"\nenv_key = {quoted(env)}"),
        ),
        Snippet(
            "opencode",
            "OpenCode",
            "In opencode.json, then: opencode",
            "{\n"
            '  "$schema": "https://opencode.ai/config.json",\n'
            f'  "model": {quoted(f"translator/{model}")},\n'
            '  "provider": {\n'
            '    "translator": {\n'
            '      "npm": "@ai-sdk/openai",\n'
            f'      "options": {{ "baseURL": {quoted(url)}, "apiKey": {config_key} }},\n'
            f'      "models": {{ {quoted(model)}: {{ "reasoning": true }} }}\n'
            "    }\n"
            "  }\n"
            "}",
        ),
        Snippet(
            "python",
            "OpenAI Python",
            "pip install openai",
            f"{imports}from openai import OpenAI\n\n"
            f"client = OpenAI(base_url={quoted(url)}, api_key={python_key})\n"
            f'response = client.responses.create(model={quoted(model)}, input="Hello")\n'
            "print(response.output_text)",
        ),
        Snippet(
            "node",
            "OpenAI Node",
            "npm install openai",
            "import OpenAI from 'openai';\n\n"
            f"const client = new OpenAI({{ baseURL: {quoted(url)}, apiKey: {node_key} }});\n"
            "const response = await client.responses.create({\n"
            f"  model: {quoted(model)},\n"
            "  input: 'Hello',\n"
            "});\n"
            "console.log(response.output_text);",
        ),
        Snippet("curl", "curl", "In a shell", _curl(target)),
        Snippet(
            "agents",
            "openai-agents",
            "pip install openai-agents",
            f"{imports}from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner\n"
            "from agents import set_tracing_disabled\n"
            "from openai import AsyncOpenAI\n\n"
            "set_tracing_disabled(True)  # traces would go to OpenAI\n"
            f"client = AsyncOpenAI(base_url={quoted(url)}, api_key={python_key})\n"
            f"model = OpenAIResponsesModel(model={quoted(model)}, openai_client=client)\n"
            'settings = ModelSettings(response_include=["reasoning.encrypted_content"])\n'
            'agent = Agent(name="Assistant", model=model, model_settings=settings)\n'
            'print(Runner.run_sync(agent, "Hello").final_output)',
        ),
        Snippet(
            "langchain",
            "LangChain",
            "pip install langchain-openai",
            f"{imports}from langchain_openai import ChatOpenAI\n\n"
            "model = ChatOpenAI(\n"
            f"    model={quoted(model)},\n"
            f"    base_url={quoted(url)},\n"
            f"    api_key={python_key},\n"
            "    use_responses_api=True,\n"
            '    include=["reasoning.encrypted_content"],\n'
            ")\n"
            'print(model.invoke("Hello").text)',
        ),
        Snippet(
            "pydantic-ai",
            "pydantic-ai",
            "pip install 'pydantic-ai-slim[openai]'",
            f"{imports}from pydantic_ai import Agent\n"
            "from pydantic_ai.models.openai import OpenAIResponsesModel\n"
            "from pydantic_ai.profiles.openai import OpenAIModelProfile\n"
            "from pydantic_ai.providers.openai import OpenAIProvider\n\n"
            "model = OpenAIResponsesModel(\n"
            f"    {quoted(model)},\n"
            f"    provider=OpenAIProvider(base_url={quoted(url)}, api_key={python_key}),\n"
            "    profile=OpenAIModelProfile(openai_supports_encrypted_reasoning_content=True),\n"
            ")\n"
            'print(Agent(model).run_sync("Hello").output)',
        ),
        Snippet(
            "ai-sdk",
            "Vercel AI SDK",
            "npm install ai @ai-sdk/openai",
            "import { createOpenAI } from '@ai-sdk/openai';\n"
            "import { generateText } from 'ai';\n\n"
            f"const openai = createOpenAI({{ baseURL: {quoted(url)}, apiKey: {node_key} }});\n"
            "const { text } = await generateText({\n"
            f"  model: openai({quoted(model)}),\n"
            "  providerOptions: { openai: { store: false } }, // it sends all of the conversation\n"
            "  prompt: 'Hello',\n"
            "});\n"
            "console.log(text);",
        ),
        Snippet(
            "copilot",
            "Copilot CLI",
            "In a shell",
            f"{exported}export COPILOT_PROVIDER_BASE_URL={shlex.quote(url)}\n"
            "export COPILOT_PROVIDER_WIRE_API=responses\n"
            f"export COPILOT_PROVIDER_API_KEY={NO_KEY if env is None else f'${env}'}\n"
            f"export COPILOT_MODEL={shlex.quote(model)}\n"
            "copilot",
        ),
        Snippet(
            "pi",
            "pi",
            "In ~/.pi/agent/models.json, then: pi --model translator/MODEL",
            "{\n"
            '  "providers": {\n'
            '    "translator": {\n'
            f'      "baseUrl": {quoted(url)},\n'
            '      "api": "openai-responses",\n'
            f'      "apiKey": {quoted(NO_KEY if env is None else f"${env}")},\n'
            f'      "models": [{{ "id": {quoted(model)}, "reasoning": true }}]\n'
            "    }\n"
            "  }\n"
            "}",
        ),
        Snippet(
            "vscode",
            "VS Code",
            "Chat: Manage Language Models › Add Models › Custom Endpoint",
            "[\n"
            "  {\n"
            '    "name": "translator",\n'
            '    "vendor": "customendpoint",\n'
            '    "apiKey": "${input:chat.lm.secret.translator}",\n'
            '    "apiType": "responses",\n'
            '    "models": [\n'
            "      {\n"
            f'        "id": {quoted(model)},\n'
            f'        "name": {quoted(model)},\n'
            f'        "url": {quoted(f"{url}/responses")},\n'
            '        "toolCalling": true,\n'
            '        "thinking": true,\n'
            '        "zeroDataRetentionEnabled": true\n'
            "      }\n"
            "    ]\n"
            "  }\n"
            "]",
        ),
    ]


def _curl(target: Target) -> str:
    body = f'{{"model": {quoted(target.model)}, "input": "Hello"}}'
    key = target.key_env
    header = "" if key is None else f'  -H "Authorization: Bearer ${key}" \\\n'
    return (
        f"curl {shlex.quote(f'{target.base_url}/responses')} \\\n"
        f"{header}"
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )
