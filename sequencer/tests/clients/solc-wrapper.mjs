#!/usr/bin/env node
// Lets forge use the solc of the npm registry: answers --version and --standard-json as the native compiler does.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const solc = createRequire(import.meta.url)('solc');
if (process.argv.includes('--version')) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (process.argv.includes('--standard-json')) {
  const input = JSON.parse(readFileSync(0, 'utf8'));
  process.stdout.write(solc.compile(JSON.stringify(input)));
} else {
  process.stderr.write('only --version and --standard-json are answered\n');
  process.exit(1);
}
