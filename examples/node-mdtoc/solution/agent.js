// A scripted agent: reads the prompt on stdin and does the story that it names, by the patch beside
// this file. It stands in for a model, so that a run can be tried without one.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

function main() {
  const story = /\bUS-\d+\b/.exec(readFileSync(0, "utf8"))?.[0];
  if (!story) {
    throw new Error("The prompt names no story.");
  }
  const patch = join(dirname(fileURLToPath(import.meta.url)), `${story}.patch`);
  if (!existsSync(patch)) {
    throw new Error(`There is no patch for ${story}.`);
  }
  for (const part of readFileSync(patch, "utf8").split(/^diff --git /m).slice(1)) {
    console.log(`Edited ${apply(part)}`);
  }
  if (spawnSync(process.execPath, ["--test"], { stdio: "inherit", timeout: 300_000 }).status !== 0) {
    throw new Error("The tests fail.");
  }
  console.log(`- Did ${story} with tests\n\n<promise>COMPLETE</promise>`);
}

/** Applies one file's part of a unified diff to the current directory. */
function apply(part) {
  const path = /^\+\+\+ b\/(.+)$/m.exec(part)[1];
  const isNew = part.includes("\nnew file mode");
  const lines = isNew ? [] : readFileSync(path, "utf8").split("\n");
  let begin = 0;
  for (const hunk of part.split(/^@@ .*\n/m).slice(1)) {
    const body = hunk.split("\n").slice(0, -1).filter((line) => !line.startsWith("\\"));
    const before = body.filter((line) => line[0] !== "+").map((line) => line.slice(1));
    const after = body.filter((line) => line[0] !== "-").map((line) => line.slice(1));
    begin = find(lines, before, begin, path);
    lines.splice(begin, before.length, ...after);
    begin += after.length;
  }
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, lines.join("\n") + (isNew ? "\n" : ""));
  return path;
}

/** Where the old lines stand, from `begin` on: the code may have moved since the patch was made. */
function find(lines, before, begin, path) {
  for (let at = begin; at + before.length <= lines.length; at += 1) {
    if (before.every((line, index) => lines[at + index] === line)) {
      return at;
    }
  }
  throw new Error(`${path} is not what the patch expects.`);
}

try {
  main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
