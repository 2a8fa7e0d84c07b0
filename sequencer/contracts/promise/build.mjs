// Compiles PromiseVerifier.sol and writes PromiseVerifier.json: code, interface, and the hash of the source that they were
// made from. It uses the pinned solc beside the token: run `npm ci` in ../token first. A test of the crate
// ironlane-promise runs the code, and compares the hash with the file beside it.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(join(here, "../token/package.json"));
const [solc, sha3] = [require("solc"), require("js-sha3")];
const name = "PromiseVerifier";
const source = readFileSync(join(here, `${name}.sol`), "utf8");
const settings = { optimizer: { enabled: true, runs: 10000 }, evmVersion: "prague", metadata: { bytecodeHash: "none" } };
const wanted = { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } };
const input = {
  language: "Solidity",
  sources: { [`${name}.sol`]: { content: source } },
  settings: { ...settings, outputSelection: wanted },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
const problems = output.errors ?? [];
for (const problem of problems) console.error(problem.formattedMessage);
if (problems.length > 0) process.exit(1);
const { abi, evm } = output.contracts[`${name}.sol`][name];
const artifact = {
  contractName: name,
  compiler: solc.version(),
  settings,
  sourceKeccak256: "0x" + sha3.keccak256(source),
  abi,
  bytecode: "0x" + evm.bytecode.object,
  deployedBytecode: "0x" + evm.deployedBytecode.object,
};
writeFileSync(join(here, `${name}.json`), JSON.stringify(artifact, null, 2) + "\n");
console.log(`${name}.json: ${evm.deployedBytecode.object.length / 2} bytes of code`);
