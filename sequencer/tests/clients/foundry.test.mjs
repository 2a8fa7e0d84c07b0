import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ADDRESS, KEY, OTHER, OTHER_KEY, compileCounter, eventually, startNode } from './harness.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const bin = name => path.join(here, 'node_modules/.bin', name);
const run = promisify(execFile);
let node, counter;

/** Runs cast; its npm wrapper ends with 0 even when cast fails, so the message decides. */
async function cast(command, ...args) {
  const { stdout, stderr } = await run(bin('cast'), [command, '--rpc-url', node.http, ...args]);
  if (stderr.startsWith('Error')) throw new Error(stderr);
  return stdout.trim();
}

before(async () => { node = await startNode(); });
after(async () => { await node.stop(); });

test('cast: deploy, write, read, logs, blocks', async () => {
  const { bytecode } = compileCounter();
  const start = '5'.padStart(64, '0');
  const made = JSON.parse(await cast('send', '--private-key', KEY, '--json', '--create', bytecode + start));
  assert.equal(made.status, '0x1');
  counter = made.contractAddress;
  await cast('send', '--private-key', KEY, counter, 'increase(uint256)', '7');
  assert.equal(await cast('call', counter, 'value()(uint256)'), '12');
  await assert.rejects(cast('call', counter, 'increase(uint256)', '2000'), /revert|TooMuch/i);
  const logs = await eventually('the log in a sealed block', async () => {
    const text = await cast('logs', '--address', counter, '--from-block', '0', 'Increased(address,uint256)');
    return text.includes('blockHash') ? text : null;
  });
  assert.match(logs, /0{62}0c/);
  assert.equal(await cast('chain-id'), '31337');
  assert.match(await cast('block', 'latest'), /stateRoot/);
  assert.equal(await cast('balance', OTHER), (10000n * 10n ** 18n).toString());
  assert.equal(await cast('nonce', ADDRESS), '2');
});

test('forge script --broadcast deploys and calls', async () => {
  const project = mkdtempSync(path.join(os.tmpdir(), 'ironlane-forge-'));
  try {
    mkdirSync(path.join(project, 'src'));
    mkdirSync(path.join(project, 'script'));
    cpSync(path.join(here, 'contracts/Counter.sol'), path.join(project, 'src/Counter.sol'));
    cpSync(path.join(here, 'contracts/Deploy.s.sol'), path.join(project, 'script/Deploy.s.sol'));
    const config = `[profile.default]\nsrc = 'src'\nout = 'out'\nlibs = []\nsolc = '${path.join(here, 'solc-wrapper.mjs')}'\noffline = true\n`;
    writeFileSync(path.join(project, 'foundry.toml'), config);
    const args = ['script', 'script/Deploy.s.sol:Deploy', '--root', project, '--rpc-url', node.http,
      '--private-key', OTHER_KEY, '--broadcast', '--slow'];
    const { stdout } = await run(bin('forge'), args, { cwd: project, timeout: 120_000 });
    assert.match(stdout, /ONCHAIN EXECUTION COMPLETE & SUCCESSFUL/);
    assert.equal(await cast('nonce', OTHER), '2');
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
});
