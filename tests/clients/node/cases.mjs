// What the programs here have in common. Each runs the cases that it is asked for: a line on stdin
// says `{ name, baseURL, model, … }`, a line on stdout says what the user of the client would see.

import { createInterface } from 'node:readline';

export const KEY = 'sk-the-upstreams-key';
export const PROMPT = 'What is the weather?';

// One red pixel.
export const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';

/** What the tool of that name does. */
export const weather = ({ city }) => `${city}: ${city.length} degrees`;

const CASE_TIMEOUT_MS = 30_000;

/** Run cases one after the other; `describe` says what the user learns from an exception. */
export async function serve(cases, describe) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { name, ...settings } = JSON.parse(line);
    let seen;
    try {
      seen = await Promise.race([cases[name](settings), late()]);
    } catch (error) {
      seen = { error: describe(error) };
    }
    process.stdout.write(`${JSON.stringify(seen)}\n`);
  }
  process.exit();
}

function late() {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error('The case took too long.')), CASE_TIMEOUT_MS).unref();
  });
}
