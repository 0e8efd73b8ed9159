'use strict';
/*
 * The lab's Node service: one process, plain http, OpenTelemetry from npm, nothing of Layerline.
 *
 * node server.js --listen HOST:PORT --folder DIR
 *
 * GET /cpu?ms=N  /sleep?ms=N  /call?url=URL  /write?kib=N  /db?ms=N&n=M  /victim?ms=N  /big?kib=N  /ready
 * PUT /hold?ms=N&after=K   K ms after this is answered, the event loop is held for N ms, once.
 *
 * Spans go to OTEL_EXPORTER_OTLP_ENDPOINT with OTEL_EXPORTER_OTLP_HEADERS; DATABASE_URL names the PostgreSQL of /db.
 */
const sdk = require('./tracing.js'); // first: it patches what is required below
const { trace } = require('@opentelemetry/api');
const fs = require('node:fs/promises');
const http = require('node:http');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { setTimeout: sleep } = require('node:timers/promises');
const pg = require('pg');

const STEP_MS = 5;
const options = parseArgs({
  options: { listen: { type: 'string', default: '127.0.0.1:8000' }, folder: { type: 'string', default: '.' } },
}).values;
const pool = process.env.DATABASE_URL ? new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 8 }) : null;

let sink = 0; // keeps the loop's result in use, so that it is not optimised away

function rounds(count) {
  for (let round = 0; round < count; round += 1) sink = (Math.imul(sink, 1664525) + 1013904223) | 0;
}

/** Rounds per millisecond of this process's CPU time; the best of seven, after the compiler has warmed up. */
function calibrate(count = 20_000_000) {
  let best = 0;
  for (let attempt = 0; attempt < 7; attempt += 1) {
    const before = process.cpuUsage();
    rounds(count);
    const used = process.cpuUsage(before); // microseconds
    best = Math.max(best, count / ((used.user + used.system) / 1000));
  }
  return best;
}

const PER_MS = calibrate();

/** Compute until the process has used so much CPU time, however fast the machine is just now. */
function burn(milliseconds) {
  const before = process.cpuUsage();
  for (let left = milliseconds; left > 0; ) {
    rounds(Math.ceil(Math.min(left, 5) * PER_MS));
    const used = process.cpuUsage(before); // microseconds
    left = milliseconds - (used.user + used.system) / 1000;
  }
}

/** Hold the loop until so many milliseconds have passed, whoever else has the core. */
function hold(milliseconds) {
  const until = performance.now() + milliseconds;
  while (performance.now() < until) rounds(1000);
}

const number = (query, name, usual = 0) => {
  const value = Number(query.get(name) ?? usual);
  if (!Number.isFinite(value) || value < 0) throw new RangeError(`${name}: a number of at least 0 was expected, found ${query.get(name)}`);
  return value;
};

const routes = {
  'GET /ready': async () => 'ready',
  'GET /cpu': async (query) => {
    burn(number(query, 'ms'));
    return 'done';
  },
  'GET /sleep': async (query) => {
    await sleep(number(query, 'ms'));
    return 'done';
  },
  'GET /victim': async (query) => {
    for (let left = number(query, 'ms'); left > 0; left -= STEP_MS) await sleep(Math.min(STEP_MS, left));
    return 'done';
  },
  'GET /call': (query) =>
    new Promise((resolve, reject) => {
      http
        .get(query.get('url'), (answer) => {
          answer.resume();
          answer.on('end', () => (answer.statusCode === 200 ? resolve('done') : reject(new Error(`${query.get('url')} answered ${answer.statusCode}`))));
          answer.on('error', reject);
        })
        .on('error', reject);
    }),
  'GET /write': async (query) => {
    const file = await fs.open(path.join(options.folder, 'own'), 'w', 0o600);
    try {
      await file.write(Buffer.alloc(number(query, 'kib') * 1024, 'layerline'));
      await file.sync();
    } finally {
      await file.close();
    }
    return 'done';
  },
  'GET /db': async (query) => {
    if (!pool) throw new Error('DATABASE_URL is not set, so there is no database to ask');
    const milliseconds = number(query, 'ms');
    for (let count = number(query, 'n', 1); count > 0; count -= 1) {
      if (milliseconds > 0) await pool.query('SELECT pg_sleep($1 / 1000.0)', [milliseconds]);
      else await pool.query('SELECT 1 + $1::int', [count]);
    }
    return 'done';
  },
  'GET /big': async (query) => Buffer.alloc(number(query, 'kib') * 1024, 'layerline'),
  'PUT /hold': async (query, response) => {
    const [milliseconds, after] = [number(query, 'ms'), number(query, 'after')];
    response.on('finish', () => setTimeout(() => hold(milliseconds), after));
    return 'done';
  },
};

async function answer(request, response) {
  const url = new URL(request.url, 'http://lab');
  const name = `${request.method} ${url.pathname}`;
  const route = Object.hasOwn(routes, name) ? routes[name] : null;
  if (!route) {
    response.writeHead(404).end(`no route ${name}\n`);
    return;
  }
  trace.getActiveSpan()?.updateName(name).setAttribute('http.route', url.pathname);
  try {
    const body = await route(url.searchParams, response);
    response.writeHead(200, { 'content-type': 'text/plain' }).end(body);
  } catch (error) {
    console.error(error);
    response.writeHead(500).end(`${error.message}\n`);
  }
}

const at = options.listen.lastIndexOf(':');
const server = http.createServer(answer).listen(Number(options.listen.slice(at + 1)), options.listen.slice(0, at));

let stopping = false;
async function stop() {
  if (stopping) return;
  stopping = true;
  server.close();
  server.closeAllConnections();
  await Promise.allSettled([sdk.shutdown(), pool?.end()]);
  process.exit(0);
}
process.on('SIGINT', stop);
process.on('SIGTERM', stop);
