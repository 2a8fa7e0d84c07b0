import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Contract, ContractFactory, JsonRpcProvider, Wallet, WebSocketProvider, parseEther } from 'ethers';
import { ADDRESS, CHAIN_ID, KEY, OTHER, compileCounter, eventually, startNode } from './harness.mjs';

let node, provider, wallet, socket, artifact, contract;

before(async () => {
  artifact = compileCounter();
  node = await startNode();
  provider = new JsonRpcProvider(node.http, undefined, { polling: true, pollingInterval: 50, cacheTimeout: -1 });
  wallet = new Wallet(KEY, provider);
  socket = new WebSocketProvider(node.ws);
});

after(async () => {
  provider.destroy();
  await socket.destroy();
  await node.stop();
});

test('network and balance', async () => {
  assert.equal((await provider.getNetwork()).chainId, BigInt(CHAIN_ID));
  assert.ok((await provider.getBalance(ADDRESS)) > parseEther('9999'));
});

test('deploy, write, read, logs', async () => {
  contract = await new ContractFactory(artifact.abi, artifact.bytecode, wallet).deploy(5n);
  await contract.waitForDeployment();
  const sent = await contract.increase(7n);
  const receipt = await sent.wait();
  assert.equal(receipt.status, 1);
  assert.equal(receipt.logs.length, 1);
  assert.equal(await contract.value(), 12n);
  await assert.rejects(contract.increase.staticCall(2000n), error => error.revert?.name === 'TooMuch');
  const found = await eventually('the log in a sealed block', async () => {
    const events = await contract.queryFilter('Increased', 0);
    return events.length ? events : null;
  });
  assert.equal(found[0].args.newValue, 12n);
});

test('a plain transfer waits for one confirmation', async () => {
  const before = await provider.getBalance(OTHER);
  const sent = await wallet.sendTransaction({ to: OTHER, value: 1000n });
  const receipt = await sent.wait(1);
  assert.equal(receipt.gasUsed, 21000n);
  assert.equal((await provider.getBalance(OTHER)) - before, 1000n);
});

test('subscriptions over WebSocket', async () => {
  const blocks = [];
  const values = [];
  await socket.on('block', number => blocks.push(number));
  const live = new Contract(await contract.getAddress(), artifact.abi, socket);
  await live.on('Increased', (_by, value) => values.push(value));
  await eventually('a head', () => blocks.length > 0);
  await (await contract.increase(1n)).wait();
  await eventually('the log', () => values.includes(13n));
});
