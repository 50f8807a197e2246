// The Vercel AI SDK (`ai`) with its OpenAI provider, which speaks to /v1/responses. `settings` are
// further arguments of generateText and streamText.

import { createOpenAI } from '@ai-sdk/openai';
import {
  defaultSettingsMiddleware,
  generateObject,
  generateText,
  isStepCount,
  Output,
  RetryError,
  streamText,
  tool,
  wrapLanguageModel,
} from 'ai';
import { z } from 'zod';

import { KEY, PIXEL, PROMPT, serve, weather } from './cases.mjs';

const Weather = z.object({ city: z.string(), degrees: z.number() });

const looping = {
  stopWhen: isStepCount(5),
  tools: {
    weather: tool({
      description: 'The weather in a city.',
      inputSchema: z.object({ city: z.string() }),
      execute: weather,
    }),
  },
};

/** A model as docs/clients.md sets it up; `openai` are other options of the provider. */
function at({ baseURL, model, openai = { store: false } }) {
  return wrapLanguageModel({
    model: createOpenAI({ baseURL, apiKey: KEY })(model),
    middleware: defaultSettingsMiddleware({ settings: { providerOptions: { openai } } }),
  });
}

async function shown(result) {
  return {
    text: await result.text,
    reasoning: await result.reasoningText,
    finish: await result.finishReason,
    usage: (await result.totalUsage).totalTokens,
    steps: (await result.steps).length,
  };
}

/** A stream to its end: what was heard of it, by kind. An error in it is what the user sees. */
async function followed(result) {
  const heard = {};
  for await (const part of result.fullStream) {
    if (part.type === 'error') throw part.error;
    if (part.text !== undefined) heard[part.type] = (heard[part.type] ?? '') + part.text;
  }
  return { ...(await shown(result)), heard };
}

/** A question that takes tools, and another one with all messages of the first. */
async function talk(where, generate) {
  const model = at(where);
  const messages = [{ role: 'user', content: PROMPT }];
  const first = await generate({ model, messages, ...looping });
  await first.consumeStream?.();
  messages.push(...(await first.responseMessages), { role: 'user', content: 'And tomorrow?' });
  const second = await generate({ model, messages, ...looping });
  await second.consumeStream?.();
  return shown(second);
}

/** A question, and another one on its own, which goes on from the response before. */
async function goingOn(where, first, messages) {
  const previousResponseId = first.providerMetadata.openai.responseId;
  const openai = { ...where.openai, previousResponseId };
  return shown(await generateText({ model: at({ ...where, openai }), messages, ...looping }));
}

/** The model with the search that the service runs. */
function searching(where) {
  const web_search = createOpenAI({ baseURL: where.baseURL, apiKey: KEY }).tools.webSearch({});
  return { model: at(where), tools: { web_search } };
}

/** What is shown of an answer that took a search, and what is said to a question that follows. */
async function searched(where, result) {
  const [results, sources] = [await result.toolResults, await result.sources];
  const said = { role: 'user', content: PROMPT };
  const messages = [said, ...(await result.responseMessages), { role: 'user', content: 'Sure?' }];
  const second = await generateText({ ...searching(where), messages });
  return {
    ...(await shown(result)),
    found: results.map((one) => one.output),
    sources: sources.map((one) => one.url),
    second: second.text,
  };
}

/** The model with a server whose tools the service calls. */
function served(where, requireApproval) {
  const { tools } = createOpenAI({ baseURL: where.baseURL, apiKey: KEY });
  const mcp = tools.mcp({ serverLabel: 'math', serverUrl: where.url, requireApproval });
  return { model: at(where), tools: { mcp } };
}

/** What is shown of an answer that took a call of a server, and of one that follows. */
async function called(where, result) {
  const found = (await result.toolResults).map((one) => one.output);
  const said = { role: 'user', content: PROMPT };
  const messages = [said, ...(await result.responseMessages), { role: 'user', content: 'Sure?' }];
  const second = await generateText({ ...served(where, 'never'), messages });
  return { ...(await shown(result)), found, second: second.text };
}

/** A call that waits, and the answer once the user has said whether to run it. */
async function answered(where, approved) {
  const settings = served(where, 'always');
  const messages = [{ role: 'user', content: PROMPT }];
  const first = await generateText({ ...settings, messages });
  const asked = first.content.filter((part) => part.type === 'tool-approval-request');
  const content = asked.map(({ approvalId }) => ({
    type: 'tool-approval-response',
    approvalId,
    approved,
    providerExecuted: true, // as useChat says of tools that run elsewhere
  }));
  messages.push(...first.responseMessages, { role: 'tool', content });
  const second = await generateText({ ...settings, messages });
  const inputs = asked.map(({ toolCall }) => toolCall.input);
  const given = inputs.map((one) => (typeof one === 'string' ? JSON.parse(one) : one));
  return { ...(await shown(second)), asked: given };
}

const cases = {
  async text(where) {
    return shown(await generateText({ model: at(where), prompt: PROMPT, ...where.settings }));
  },

  async streaming(where) {
    const quiet = { onError() {} };
    return followed(streamText({ model: at(where), prompt: PROMPT, ...quiet, ...where.settings }));
  },

  async tools(where) {
    return shown(await generateText({ model: at(where), prompt: PROMPT, ...looping }));
  },

  async 'streaming tools'(where) {
    return followed(streamText({ model: at(where), prompt: PROMPT, ...looping }));
  },

  async search(where) {
    return searched(where, await generateText({ ...searching(where), prompt: PROMPT }));
  },

  async 'streaming search'(where) {
    const result = streamText({ ...searching(where), prompt: PROMPT });
    await result.consumeStream();
    return searched(where, result);
  },

  async mcp(where) {
    return called(where, await generateText({ ...served(where, 'never'), prompt: PROMPT }));
  },

  async 'streaming mcp'(where) {
    const result = streamText({ ...served(where, 'never'), prompt: PROMPT });
    await result.consumeStream();
    return called(where, result);
  },

  'approved mcp': (where) => answered(where, true),

  'denied mcp': (where) => answered(where, false),

  async conversation(where) {
    const model = at(where);
    const messages = [{ role: 'user', content: PROMPT }];
    const { response } = await generateText({ model, messages });
    messages.push(...response.messages, { role: 'user', content: 'And tomorrow?' });
    return shown(await generateText({ model, messages }));
  },

  talk: (where) => talk(where, generateText),

  'streaming talk': (where) => talk(where, streamText),

  async 'talk from the response before'(where) {
    const first = await generateText({ model: at(where), prompt: PROMPT, ...looping });
    return goingOn(where, first, [{ role: 'user', content: 'And tomorrow?' }]);
  },

  async 'all messages after the response before'(where) {
    const messages = [{ role: 'user', content: PROMPT }];
    const first = await generateText({ model: at(where), messages });
    messages.push(...first.responseMessages, { role: 'user', content: 'And tomorrow?' });
    return goingOn(where, first, messages);
  },

  async structured(where) {
    const output = Output.object({ schema: Weather });
    return { parsed: (await generateText({ model: at(where), prompt: PROMPT, output })).output };
  },

  async 'structured, the older way'(where) {
    const request = { model: at(where), prompt: PROMPT, schema: Weather };
    return { parsed: (await generateObject(request)).object };
  },

  async image(where) {
    const image = Buffer.from(PIXEL, 'base64');
    const content = [
      { type: 'text', text: PROMPT },
      { type: 'image', image },
    ];
    const messages = [{ role: 'user', content }];
    return shown(await generateText({ model: at(where), messages }));
  },
};

globalThis.AI_SDK_LOG_WARNINGS = false;

serve(cases, (error) => {
  const last = RetryError.isInstance(error) ? error.lastError : error;
  return { name: last.name, status: last.statusCode, message: last.message };
});
