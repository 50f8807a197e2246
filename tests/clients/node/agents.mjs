// openai-agents for JavaScript, on the Responses API of a server that stores.

import {
  Agent,
  OpenAIConversationsSession,
  OpenAIResponsesModel,
  run,
  setTracingDisabled,
  tool,
} from '@openai/agents';
import OpenAI from 'openai';
import { z } from 'zod';

import { KEY, PROMPT, serve, weather } from './cases.mjs';

setTracingDisabled(true);

const NEXT_PROMPT = 'And tomorrow?';

function agentAt({ baseURL, model }) {
  const client = new OpenAI({ baseURL, apiKey: KEY });
  const looks = tool({
    name: 'weather',
    description: 'The weather in a city.',
    parameters: z.object({ city: z.string() }),
    execute: async (city) => weather(city),
  });
  const on = new OpenAIResponsesModel(client, model);
  return { client, agent: new Agent({ name: 'A', model: on, tools: [looks] }) };
}

/** A run to its end, streamed or not. */
async function ran(agent, input, options) {
  const result = await run(agent, input, options);
  await result.completed;
  return result;
}

/** A question, and another one that goes on from the last response of the first. */
async function chained(where, options) {
  const { agent } = agentAt(where);
  const { lastResponseId } = await ran(agent, PROMPT, options);
  const going = { ...options, previousResponseId: lastResponseId };
  return { text: (await ran(agent, NEXT_PROMPT, going)).finalOutput };
}

const cases = {
  async talk(where) {
    const { agent } = agentAt(where);
    const { history } = await ran(agent, PROMPT);
    const second = await ran(agent, [...history, { role: 'user', content: NEXT_PROMPT }]);
    return { text: second.finalOutput };
  },

  'chained talk': (where) => chained(where, {}),

  'streaming chained talk': (where) => chained(where, { stream: true }),

  async conversation(where) {
    const { agent, client } = agentAt(where);
    const { id: conversationId } = await client.conversations.create();
    await ran(agent, PROMPT, { conversationId });
    return { text: (await ran(agent, NEXT_PROMPT, { conversationId })).finalOutput };
  },

  async session(where) {
    const { agent, client } = agentAt(where);
    const session = new OpenAIConversationsSession({ client });
    await ran(agent, PROMPT, { session });
    const { finalOutput: text } = await ran(agent, NEXT_PROMPT, { session });
    const items = (await session.getItems()).length;
    await session.popItem();
    const left = (await session.getItems()).length;
    await session.clearSession();
    return { text, items, left };
  },
};

serve(cases, ({ name, status, message }) => ({ name, status, message }));
