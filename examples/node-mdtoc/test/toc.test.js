import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { headings } from "../src/headings.js";
import { slug } from "../src/slug.js";
import { toc } from "../src/toc.js";

test("headings are found with level and line", () => {
  const text = "# One\ntext\r\n## Two ##\n####### seven\n#not one\n   ### Three\n#\n";
  assert.deepEqual(headings(text), [
    { level: 1, title: "One", line: 1 },
    { level: 2, title: "Two", line: 3 },
    { level: 3, title: "Three", line: 6 },
  ]);
});

test("slugs are those of code hosts", () => {
  for (const [title, want] of [
    ["Getting Started", "getting-started"],
    ["What's new?", "whats-new"],
    ["C++ & Rust", "c--rust"],
    ["Über snake_case", "über-snake_case"],
  ]) {
    assert.equal(slug(title), want);
  }
});

test("the list is nested below its highest heading", () => {
  assert.equal(toc("## A\n### B\n## C\n"), "- [A](#a)\n  - [B](#b)\n- [C](#c)\n");
  assert.equal(toc("no heading"), "");
});

test("the program prints the list", () => {
  const folder = mkdtempSync(join(tmpdir(), "mdtoc-"));
  try {
    const file = join(folder, "a.md");
    writeFileSync(file, "# A\n");
    assert.equal(execFileSync(process.execPath, ["bin/mdtoc.js", file], { encoding: "utf8" }), "- [A](#a)\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
