import { headings } from "./headings.js";
import { slug } from "./slug.js";

/**
 * A table of contents as a nested Markdown list; empty when the text has no heading.
 *
 * @param {string} text
 * @returns {string}
 */
export function toc(text) {
  const list = headings(text);
  const top = Math.min(...list.map((heading) => heading.level));
  return list
    .map(({ level, title }) => `${"  ".repeat(level - top)}- [${title}](#${slug(title)})\n`)
    .join("");
}
