// Starts one node for a test file, and compiles the contract that all tests deploy.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, '../../..');

/** First development key and its address (chain 31337). */
export const KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
export const ADDRESS = '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266';
export const OTHER = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';
export const OTHER_KEY = '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d';
export const CHAIN_ID = 31337;

function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(root, 'target');
  const places = [process.env.IRONLANE_BIN, ...['release', 'debug'].map(p => path.join(target, p, 'ironlane'))];
  const found = places.find(place => place && existsSync(place));
  if (!found) throw new Error('no ironlane binary: build it with `cargo build`, or set IRONLANE_BIN');
  return found;
}

/** Starts a node that keeps nothing, on free ports; IRONLANE_TEST_URL names a running one instead. */
export async function startNode() {
  const external = process.env.IRONLANE_TEST_URL;
  if (external) return { http: external, ws: external.replace(/^http/, 'ws'), stop: async () => {} };
  const free = '127.0.0.1:0';
  const args = ['run', '--dev', '--ephemeral', '--http', free, '--ingest', free, '--metrics', free, '--json'];
  const child = spawn(binary(), args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', chunk => { log += chunk; });
  const exited = new Promise(resolve => child.once('exit', resolve));
  const ready = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', line => {
      try { const message = JSON.parse(line); if (message.http) resolve(message); } catch { /* not the ready line */ }
    });
    exited.then(code => reject(new Error(`the node ended with ${code} before it was ready:\n${log}`)));
    setTimeout(() => reject(new Error(`the node was not ready in 30 s:\n${log}`)), 30_000).unref();
  });
  const { http } = await ready;
  return {
    http: `http://${http}`,
    ws: `ws://${http}`,
    stop: async () => { child.kill('SIGTERM'); await exited; },
  };
}

/** Compiles contracts/Counter.sol with solc. */
export function compileCounter() {
  const solc = createRequire(import.meta.url)('solc');
  const input = {
    language: 'Solidity',
    sources: { 'Counter.sol': { content: readFileSync(path.join(here, 'contracts/Counter.sol'), 'utf8') } },
    settings: { optimizer: { enabled: true }, outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } } },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter(error => error.severity === 'error');
  if (errors.length) throw new Error(errors.map(error => error.formattedMessage).join('\n'));
  const contract = output.contracts['Counter.sol'].Counter;
  return { abi: contract.abi, bytecode: `0x${contract.evm.bytecode.object}` };
}

/** Resolves when `check` answers something true; fails after `ms`. */
export async function eventually(what, check, ms = 10_000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not seen in ${ms} ms`);
    await new Promise(resolve => setTimeout(resolve, 25));
  }
}
