// The `openai` package for Node, on the Responses API of a server that stores.

import { isDeepStrictEqual } from 'node:util';

import OpenAI from 'openai';

import { KEY, PROMPT, serve, weather } from './cases.mjs';

const NEXT_PROMPT = 'And tomorrow?';

const TOOLS = [
  {
    type: 'function',
    name: 'weather',
    description: 'The weather in a city.',
    strict: true,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' } },
      required: ['city'],
      additionalProperties: false,
    },
  },
];

const at = (baseURL) => new OpenAI({ baseURL, apiKey: KEY });

const asked = (content) => [{ role: 'user', content }];

const results = ({ output }) =>
  output
    .filter((item) => item.type === 'function_call')
    .map(({ call_id, arguments: json }) => ({
      type: 'function_call_output',
      call_id,
      output: weather(JSON.parse(json)),
    }));

/**
 * A question that takes tools, and another one. `ask` is given what is new, and the response before.
 */
async function talk(ask) {
  const looks = await ask(asked(PROMPT));
  const answers = await ask(results(looks), looks);
  return { text: (await ask(asked(NEXT_PROMPT), answers)).output_text };
}

/** A stream to its end: the numbers of its events, and the text of the response. */
async function followed(stream) {
  const numbers = [];
  for await (const { sequence_number: number } of stream) numbers.push(number);
  return { numbers, text: (await stream.finalResponse()).output_text };
}

/** The status of the error that a request ends in. */
async function refused(request) {
  try {
    await request;
  } catch ({ status }) {
    return status;
  }
  return undefined;
}

const cases = {
  async talk({ baseURL, model }) {
    const { responses } = at(baseURL);
    const input = [];
    return talk((items, before) => {
      input.push(...(before?.output ?? []), ...items);
      return responses.create({ model, input, tools: TOOLS });
    });
  },

  async 'chained talk'({ baseURL, model }) {
    const { responses } = at(baseURL);
    return talk((input, before) =>
      responses
        .stream({ model, input, tools: TOOLS, previous_response_id: before?.id })
        .finalResponse(),
    );
  },

  async conversation({ baseURL, model }) {
    const { conversations, responses } = at(baseURL);
    const { id } = await conversations.create({ metadata: { topic: 'weather' } });
    const { text } = await talk((input) =>
      responses.create({ model, input, tools: TOOLS, conversation: id }),
    );
    const listed = [];
    for await (const { type } of conversations.items.list(id, { order: 'asc', limit: 2 })) {
      listed.push(type);
    }
    const [newest] = (await conversations.items.list(id, { limit: 1 })).data;
    const last = await conversations.items.retrieve(newest.id, { conversation_id: id });
    await conversations.items.delete(newest.id, { conversation_id: id });
    const made = await conversations.items.create(id, { items: asked('And on Sunday?') });
    await conversations.update(id, { metadata: { topic: 'rain' } });
    const { metadata } = await conversations.retrieve(id);
    await conversations.delete(id);
    return {
      text,
      listed,
      last: last.content[0].text,
      made: made.data.map(({ content }) => content[0].text),
      topic: metadata.topic,
      deleted: await refused(conversations.retrieve(id)),
    };
  },

  async 'stream by id'({ baseURL, model }) {
    const { responses } = at(baseURL);
    const asking = { model, input: PROMPT, background: true, stream: true };
    let id;
    for await (const { response, sequence_number: number } of await responses.create(asking)) {
      id ??= response.id;
      if (number === 6) break;
    }
    const whole = await followed(responses.stream({ response_id: id }));
    const rest = await followed(responses.stream({ response_id: id, starting_after: 6 }));
    const raw = [];
    for await (const event of await responses.retrieve(id, { stream: true, starting_after: 6 })) {
      raw.push(event.sequence_number);
    }
    return { ...whole, rest, raw };
  },

  async 'by id'({ baseURL, model }) {
    const { responses } = at(baseURL);
    const first = await responses.create({ model, input: PROMPT });
    const going = { model, input: NEXT_PROMPT, previous_response_id: first.id };
    const second = await responses.create(going);
    const listed = [];
    for await (const item of responses.inputItems.list(second.id, { limit: 1, order: 'asc' })) {
      listed.push(item.type);
    }
    const read = await responses.retrieve(first.id);
    await responses.delete(first.id);
    return {
      same: isDeepStrictEqual({ ...read, _request_id: '' }, { ...first, _request_id: '' }),
      listed,
      deleted: await refused(responses.retrieve(first.id)),
      cancelled: await refused(responses.cancel(second.id)),
    };
  },
};

serve(cases, ({ name, status, message }) => ({ name, status, message }));
