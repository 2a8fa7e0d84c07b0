// Compiles Token.sol with the pinned solc and writes Token.json: code, interface, and the hash of the source that they were
// made from. A test of the benchmarks compares that hash with the file beside it.
import { readFileSync, writeFileSync } from "node:fs";
import sha3 from "js-sha3";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const source = readFileSync(join(here, "Token.sol"), "utf8");
const settings = {
  optimizer: { enabled: true, runs: 10000 },
  evmVersion: "prague",
  // Without the metadata's hash the code does not depend on where, or from which file name, it was compiled.
  metadata: { bytecodeHash: "none" },
};
const input = {
  language: "Solidity",
  sources: { "Token.sol": { content: source } },
  settings: { ...settings, outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
const problems = output.errors ?? [];
for (const problem of problems) console.error(problem.formattedMessage);
if (problems.length > 0) process.exit(1);
const { abi, evm } = output.contracts["Token.sol"].Token;
const artifact = {
  contractName: "Token",
  compiler: solc.version(),
  settings,
  sourceKeccak256: "0x" + sha3.keccak256(source),
  abi,
  bytecode: "0x" + evm.bytecode.object,
  deployedBytecode: "0x" + evm.deployedBytecode.object,
};
writeFileSync(join(here, "Token.json"), JSON.stringify(artifact, null, 2) + "\n");
console.log(`Token.json: ${evm.deployedBytecode.object.length / 2} bytes of code`);
