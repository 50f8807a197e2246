// The `openai` package for Node, on /v1/responses. `request` are further fields of the request.

import OpenAI from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { z } from 'zod';

import { KEY, PIXEL, PROMPT, serve, weather } from './cases.mjs';

const Weather = z.object({ city: z.string(), degrees: z.number() });

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

function shown(response) {
  return {
    text: response.output_text,
    status: response.status,
    reason: response.incomplete_details?.reason,
    usage: response.usage?.total_tokens,
  };
}

/** A stream to its end. The package's own accumulator judges every event on the way. */
async function followed(stream, types = {}) {
  const heard = {};
  for await (const { type, delta } of stream) {
    const kind = types[type];
    if (kind !== undefined) heard[kind] = (heard[kind] ?? '') + delta;
  }
  return { response: await stream.finalResponse(), heard };
}

const SHOWN = {
  'response.output_text.delta': 'text',
  'response.reasoning_summary_text.delta': 'reasoning',
};

/** Answer calls until there are none. `ask` gives the response to an input. */
async function loop(ask) {
  const input = [{ role: 'user', content: PROMPT }];
  for (;;) {
    const response = await ask(input);
    input.push(...response.output);
    const calls = response.output.filter((item) => item.type === 'function_call');
    if (calls.length === 0) return shown(response);
    for (const { call_id, arguments: json } of calls) {
      const output = weather(JSON.parse(json));
      input.push({ type: 'function_call_output', call_id, output });
    }
  }
}

/** The text of a response: on a WebSocket the package gives what came, without `output_text`. */
const written = ({ output }) =>
  output
    .filter((item) => item.type === 'message')
    .flatMap((item) => item.content.map((part) => part.text))
    .join('');

/** One response on a WebSocket, to its last event: `{ response, error, heard, types }`. */
async function spoken(socket, request) {
  const heard = {};
  const types = [];
  const messages = socket.stream();
  socket.send({ type: 'response.create', ...request });
  for await (const { type: lifecycle, message, error } of messages) {
    // Before a response, an error is the only event; within one, `response.failed` follows.
    if (lifecycle === 'error' && error.error?.sequence_number === undefined) {
      const { status, error: told } = error.error ?? { error: { message: error.message } };
      return { error: { status, ...told }, heard, types };
    }
    if (lifecycle !== 'message') continue;
    const { type, delta, response } = message;
    types.push(type);
    const kind = SHOWN[type];
    if (kind !== undefined) heard[kind] = (heard[kind] ?? '') + delta;
    if (/^response\.(completed|incomplete|failed)$/.test(type)) {
      return { response, error: response.error, heard, types };
    }
  }
  throw new Error('The socket was closed in mid-response.');
}

/** Uses a socket as the package's documentation has it, and closes it. */
async function onSocket(baseURL, use) {
  const socket = new ResponsesWS(at(baseURL));
  socket.on('error', () => {}); // without a listener, errors end the process
  try {
    return await use(socket);
  } finally {
    socket.close();
  }
}

/** An answer that took tools of the service, and the answer to a question behind all its items. */
async function hosted({ baseURL, model, tools, streams }) {
  const client = at(baseURL);
  const input = [{ role: 'user', content: PROMPT }];
  const ask = async () => {
    const asked = { model, input, tools, store: false };
    if (!streams) return client.responses.create(asked);
    return (await followed(client.responses.stream(asked))).response;
  };
  let first = await ask();
  const wanted = first.output.filter((item) => item.type === 'mcp_approval_request');
  if (wanted.length > 0) {
    const given = wanted.map(({ id }) => ({ approval_request_id: id, approve: true }));
    input.push(...first.output);
    input.push(...given.map((answer) => ({ type: 'mcp_approval_response', ...answer })));
    first = await ask();
  }
  input.push(...first.output, { role: 'user', content: 'Sure?' });
  const asked = wanted.map((item) => JSON.parse(item.arguments));
  return { ...shown(first), asked, output: first.output, second: (await ask()).output_text };
}

const cases = {
  /** Each of `requests` in turn, on one socket. */
  async socket({ baseURL, model, requests = [{}] }) {
    return onSocket(baseURL, async (socket) => {
      const seen = [];
      for (const request of requests) {
        const asked = { model, input: PROMPT, ...request };
        const { response, error, heard, types } = await spoken(socket, asked);
        const text = response && written(response);
        seen.push({ ...(response && shown(response)), text, error, heard, types });
      }
      return seen;
    });
  },

  /** Only the results are sent: the connection remembers what was before. */
  async 'socket tools'({ baseURL, model, request }) {
    return onSocket(baseURL, async (socket) => {
      let asked = { input: PROMPT };
      for (;;) {
        const { response } = await spoken(socket, { model, tools: TOOLS, ...request, ...asked });
        const calls = response.output.filter((item) => item.type === 'function_call');
        if (calls.length === 0) return { ...shown(response), text: written(response) };
        const input = calls.map(({ call_id, arguments: json }) => ({
          type: 'function_call_output',
          call_id,
          output: weather(JSON.parse(json)),
        }));
        asked = { input, previous_response_id: response.id };
      }
    });
  },

  async text({ baseURL, model, request }) {
    return shown(await at(baseURL).responses.create({ model, input: PROMPT, ...request }));
  },

  async streaming({ baseURL, model, request }) {
    const stream = at(baseURL).responses.stream({ model, input: PROMPT, ...request });
    const { response, heard } = await followed(stream, SHOWN);
    return { ...shown(response), heard };
  },

  async tools({ baseURL, model, request }) {
    const client = at(baseURL);
    return loop((input) => client.responses.create({ model, input, tools: TOOLS, ...request }));
  },

  async 'streaming tools'({ baseURL, model, request }) {
    const client = at(baseURL);
    return loop(async (input) => {
      const stream = client.responses.stream({ model, input, tools: TOOLS, ...request });
      return (await followed(stream)).response;
    });
  },

  hosted,

  async structured({ baseURL, model }) {
    const text = { format: zodTextFormat(Weather, 'weather') };
    const response = await at(baseURL).responses.parse({ model, input: PROMPT, text });
    return { parsed: response.output_parsed };
  },

  async image({ baseURL, model }) {
    const content = [
      { type: 'input_text', text: PROMPT },
      { type: 'input_image', image_url: `data:image/png;base64,${PIXEL}`, detail: 'auto' },
    ];
    const input = [{ role: 'user', content }];
    return shown(await at(baseURL).responses.create({ model, input }));
  },
};

serve(cases, ({ constructor, status, code, message }) => ({
  name: constructor.name,
  status,
  code,
  message,
}));
