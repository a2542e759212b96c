#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { toc } from "../src/toc.js";

const usage = "usage: mdtoc FILE";

function main() {
  const { positionals } = parseArgs({ allowPositionals: true, options: {} });
  if (positionals.length !== 1) {
    throw new Error(usage);
  }
  process.stdout.write(toc(readFileSync(positionals[0], "utf8")));
}

try {
  main();
} catch (error) {
  console.error(`mdtoc: ${error.message}`);
  process.exitCode = 1;
}
