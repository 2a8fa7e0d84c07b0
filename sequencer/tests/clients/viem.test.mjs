import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createPublicClient, createWalletClient, http, parseEther, webSocket } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { foundry } from 'viem/chains';
import { ADDRESS, CHAIN_ID, KEY, OTHER, compileCounter, eventually, startNode } from './harness.mjs';

let node, reader, wallet, socket, counter, artifact;

before(async () => {
  artifact = compileCounter();
  node = await startNode();
  const account = privateKeyToAccount(KEY);
  reader = createPublicClient({ chain: foundry, transport: http(node.http), pollingInterval: 50 });
  wallet = createWalletClient({ chain: foundry, account, transport: http(node.http) });
  socket = createPublicClient({ chain: foundry, transport: webSocket(node.ws, { reconnect: false }) });
});

after(async () => {
  (await socket.transport.getRpcClient()).close();
  await node.stop();
});

test('chain id, balance, fees', async () => {
  assert.equal(await reader.getChainId(), CHAIN_ID);
  assert.equal(await reader.getBalance({ address: ADDRESS }), parseEther('10000'));
  const fees = await reader.estimateFeesPerGas();
  assert.ok(fees.maxFeePerGas > 0n);
  const history = await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [10, 90] });
  assert.ok(history.baseFeePerGas.length >= 2);
});

test('deploy, write, read, revert, logs', async () => {
  const deployed = await wallet.deployContract({ ...artifact, args: [5n] });
  const creation = await reader.waitForTransactionReceipt({ hash: deployed });
  assert.equal(creation.status, 'success');
  counter = creation.contractAddress;
  assert.ok((await reader.getCode({ address: counter })).length > 10);

  const call = { address: counter, abi: artifact.abi };
  const hash = await wallet.writeContract({ ...call, functionName: 'increase', args: [7n] });
  const receipt = await reader.waitForTransactionReceipt({ hash });
  assert.equal(receipt.logs.length, 1);
  assert.equal(await reader.readContract({ ...call, functionName: 'value' }), 12n);
  await assert.rejects(
    reader.simulateContract({ ...call, functionName: 'increase', args: [2000n], account: ADDRESS }),
    error => error.shortMessage.includes('TooMuch') || error.message.includes('TooMuch'),
  );
  const events = await eventually('the log in a sealed block', async () => {
    const found = await reader.getContractEvents({ ...call, eventName: 'Increased', fromBlock: 0n });
    return found.length ? found : null;
  });
  assert.equal(events[0].args.newValue, 12n);
  const sealed = await eventually('the sealed block', async () => {
    const again = await reader.getTransactionReceipt({ hash });
    const block = await reader.getBlock({ blockNumber: again.blockNumber }).catch(() => null);
    return block && block.hash === again.blockHash ? block : null;
  });
  assert.ok(sealed.transactions.includes(hash));
});

test('gas estimate, access list, proof', async () => {
  assert.equal(await reader.estimateGas({ account: ADDRESS, to: OTHER, value: 1n }), 21000n);
  const { accessList } = await reader.createAccessList({ account: ADDRESS, to: counter, data: '0x3fa4f245' });
  assert.equal(accessList[0].address.toLowerCase(), counter.toLowerCase());
  const proof = await reader.getProof({ address: counter, storageKeys: [`0x${'0'.repeat(64)}`] });
  assert.equal(proof.storageProof[0].value, 12n);
  assert.ok(proof.accountProof.length > 0);
});

test('subscriptions over WebSocket', async () => {
  const heads = [];
  const logs = [];
  const stopHeads = socket.watchBlocks({ onBlock: block => heads.push(block.number) });
  const stopLogs = socket.watchContractEvent({
    address: counter, abi: artifact.abi, eventName: 'Increased', onLogs: found => logs.push(...found),
  });
  // The subscription is made by a message of its own: the first head shows that it stands.
  await eventually('a head', () => heads.length > 0);
  await wallet.writeContract({ address: counter, abi: artifact.abi, functionName: 'increase', args: [1n] });
  await eventually('the log', () => logs.length > 0);
  assert.equal(logs[0].args.newValue, 13n);
  stopHeads();
  stopLogs();
});

test('eth_sendRawTransactionSync answers the receipt', async () => {
  const request = await wallet.prepareTransactionRequest({ to: OTHER, value: 3n });
  const raw = await wallet.signTransaction(request);
  const receipt = await reader.request({ method: 'eth_sendRawTransactionSync', params: [raw] });
  assert.equal(receipt.status, '0x1');
  assert.equal(BigInt(receipt.gasUsed), 21000n);
});
